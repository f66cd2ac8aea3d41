"""The table of memory rows, its commits, its upkeep and its readers."""
