"""Talking to NATS: the only package that imports nats-py. Its traps are answered here."""
