"""The `nextmem` command and the jobs it starts. Thin: the work is in pipeline and model."""
