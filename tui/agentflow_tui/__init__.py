"""The terminal: `agentflow tui`. Nothing is imported here, so a command line pays for nothing.

app.py      Textual round the dashboard (agentflow/dashboard), which knows no terminal
host.py     what dialogs and effects see of the app; outside.py what keys ask of the outside
frame.py    when the screen is drawn anew; theme.py its colours
driver.py   a terminal that may go away
opening.py  which feed was asked for; settings.py what it is started with
habits.py   how a person likes the tables; files.py what is left behind
widgets/    the canvas that draws the lines; screens/ the dialogs
"""
