"""JetStream over the connection: store, read, follow, pull, provision."""
