"""What runs for a while, on Ray or without: encoding, training, evaluating. Thin: the work is in pipeline and model."""
