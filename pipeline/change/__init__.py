"""Changes to a bank from the process that holds its codec: remember, update, edit. No Ray."""
