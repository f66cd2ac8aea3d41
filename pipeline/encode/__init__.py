"""Work units to rows: Ray Data, readers, encoders, the driver's loop, and what it will take."""
