"""`agentflow mcp`: tools by which an agent looks at a stack, and operates it where it may.

tools.py   what each tool does, over a client; no protocol in it
server.py  the tools as a server of the Model Context Protocol, on stdin and stdout
"""
