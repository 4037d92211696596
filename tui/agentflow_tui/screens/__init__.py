"""Dialogs: a file each. They ask, and give back what was answered; they know nothing of a feed.

prompt.py   a line of text at the bottom
choose.py   one of some commands
confirm.py  whether an act is to be done, with what it would mean
submit.py   the form for a new task
palette.py  every command, found by its words
"""
