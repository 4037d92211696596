"""The queue itself beside the bare protocol: `run.py` asks, `bare.py` is the yardstick."""
