"""What trains a codec."""
