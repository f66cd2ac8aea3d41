"""What a memory is worth: systems, the tasks they are put to, and the figures that come of it."""
