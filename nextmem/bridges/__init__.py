"""Bridges: a memory as other tools know one. A file each, thin over `nextmem.Memory`; each needs its own extra."""
