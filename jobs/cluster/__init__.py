"""Ray here, and jobs on a cluster elsewhere."""
