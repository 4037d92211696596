"""What a process tells of itself: its log, its metrics and its traces."""
