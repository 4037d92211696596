"""A client over a gateway: for who has its URL (AGENTFLOW_URL) and no way to NATS.

client.py  what `submit`, `get`, `list`, `watch` and `cancel` call, as agentflow.client has it
wire.py    requests, problems as our errors, server-sent events that come again by themselves
"""
