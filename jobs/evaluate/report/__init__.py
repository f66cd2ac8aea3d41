"""An evaluation's results as one page that a person reads."""
