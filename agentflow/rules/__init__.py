"""Pure decisions: the order of states, who may claim, what is retried, what it costs. No I/O."""
