"""What the dashboard knows and shows, without a terminal, a bus or a clock."""
