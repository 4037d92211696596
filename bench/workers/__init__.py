"""Worker programs of the other designs, each as small as that design allows.

They take the same tasks from the same queue as AgentFlow's own worker. Those in Python are apps of
AgentFlow's worker; the ones in Node and Go speak the protocol by themselves.
"""
