"""What systems are put to: one file a task."""
