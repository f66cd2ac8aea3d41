"""Documents to work units."""
