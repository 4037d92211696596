"""What draws the model's lines in a terminal."""
