"""What happens, as frames: the hub that all readers share, and the two ways out of it."""
