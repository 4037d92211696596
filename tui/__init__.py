"""The dashboard: `agentflow tui`. Nothing is imported here, so a command line pays for nothing.

model/    pure: items of the feed -> store -> views -> lines of (text, token)
feed/     where items come from: the live bus, or a recording
render/   lines as plain text or JSON, for --once and the golden tests
widgets/, screens/, app   the terminal, drawn with Textual from the same lines
"""
