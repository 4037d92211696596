"""What a job's file may hold: bytes to rows, and nothing else. Readers are pure and stream.

row.py        what a reader gives: a row, a task or what is wrong with it
kinds.py      the table of formats, and which of them a file is, by its content and its name
opening.py    a file, a pipe or standard input as UTF-8 bytes; what is refused for what it is
lines.py      a line at a time: jsonl, txt, and either of them
array.py      a JSON array, an element at a time
table.py      csv and tsv: rows of cells under a header
parquet.py    Parquet, by pyarrow
objects.py    one JSON object: ours, a bare conversation, a line of a batch file, or a row of data
anthropic_batch.py, openai_batch.py   the request in a line of a batch file
template.py   `{column}` in a prompt
"""
