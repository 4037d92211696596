"""What a process tells of itself: its log and its metrics."""
