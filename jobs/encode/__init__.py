"""The encode job."""
