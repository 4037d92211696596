"""Where the items come from that the model folds: the live bus, or a recording.

source.py     what both offer
live.py       the live feed of the client, kept open
recorder.py   a live feed kept in a file, an item a line
replay.py     such a file played again: pause, pace, seek
"""
