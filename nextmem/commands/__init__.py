"""The subcommands of `nextmem`, one file a theme: arguments and help. What they do is in jobs/, imported on use."""
