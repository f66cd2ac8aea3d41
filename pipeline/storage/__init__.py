"""Bytes, on this machine and on an object store."""
