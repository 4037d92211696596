"""What draws the dashboard's lines in a terminal."""
