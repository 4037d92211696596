"""What runs a task: one handler a kind. A handler sees rules and protocol, never the bus."""
