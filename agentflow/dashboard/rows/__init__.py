"""What each view shows, as typed rows.

A terminal draws them as lines, `--once --format json` writes them as a document (documents.py), and
a page would draw them too.
"""
