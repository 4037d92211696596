"""The checks of `agentflow doctor`."""
