"""Where the items come from that the store folds, and what a reader does on the bus.

source.py     what both offer
live.py       the live feed of the client, kept open
recorder.py   a live feed kept in a file, an item a line
replay.py     such a file played again: pause, pace, seek
acting.py     acts, each followed to its effect (receipts.py)
answers.py    what a view asks for besides: logs, prompts, why, dead letters
travel.py     another time, folded from the records
bus.py        these three, over one client
"""
