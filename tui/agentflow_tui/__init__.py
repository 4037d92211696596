"""The dashboard: `agentflow tui`. Nothing is imported here, so a command line pays for nothing.

model/    pure: items of the feed -> store -> views -> lines of (text, token)
feed/     where items come from: the live bus, or a recording
render/   lines as plain text or JSON, for --once and the golden tests
once.py   one picture for scripts
app.py    the terminal: Textual round the model; frame.py its clock, theme.py its colours,
          driver.py a terminal that may go away, outside.py what keys ask of the outside,
          habits.py how a person likes the tables
widgets/  the canvas that draws the lines; screens/ the dialogs
"""
