"""The doors: the Python face and the command line."""
