"""The master: provisions, projects the streams into an index, answers requests, sweeps."""

from agentflow.master.master import Master, serve

__all__ = ["Master", "serve"]
