"""The connection: nats-py with its traps answered, requests, answers, subscriptions."""
