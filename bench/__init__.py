"""Measurements: a file or a folder a question, and what they measure with in `instruments`.

`python -m bench` lists them.
"""
