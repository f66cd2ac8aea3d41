"""The subcommands of `nextmem`, one file a command: its arguments, and what it prints. The face does the work."""
