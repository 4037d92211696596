"""AgentFlow: thousands of Claude tasks on your own machines, over NATS JetStream."""
