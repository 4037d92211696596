"""What several tests share: a real nats-server, and the tools that are not Python."""
