"""Measurements, a file a question. Run `python -m bench` for the list."""
