"""What a codec is compared with, trained on the same backbone, passages and steps."""
