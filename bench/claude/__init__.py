"""Claude tasks beside the bare streaming SDK.

`load.py` is what is asked, as data; `sides.py` makes one side ready, ours or the SDK alone, whose
processes are `sdk.py`; `run.py` measures both; `outcome.py` shows the rows and the aims.
"""
