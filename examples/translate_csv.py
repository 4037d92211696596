"""Translate a column of a CSV file: a task for every twenty rows, the output in their order.

    agentflow up                                                         # in one terminal
    agentflow worker examples.translate_csv:app --queues translations    # in another, or in several
    python examples/translate_csv.py in.csv name French > out.csv        # FILE COLUMN LANGUAGE

The output has one more column, named for the language; it is empty where a task failed. The file
is read as there is room for more tasks, so it may be larger than memory.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

import agentflow

ROWS = 20

app = agentflow.App()


@app.task(kind="translate", retries=3, timeout=120)
def translate(ctx: agentflow.SyncContext, texts: list[str], language: str) -> list[str]:
    """Translate some texts with one request."""
    # A field for each text, and not a list: then none can be left out.
    fields = {f"text_{number}": text for number, text in enumerate(texts)}
    answer = ctx.claude(
        msgspec.json.encode(fields).decode(),
        system=f"Translate each value into {language}. Leave names, numbers and markup alone.",
        output_config={
            "format": {
                "type": "json_schema",
                "schema": {
                    "type": "object",
                    "properties": {name: {"type": "string"} for name in fields},
                    "required": list(fields),
                    "additionalProperties": False,
                },
            }
        },
    )
    if answer.stop_reason == "max_tokens":
        raise agentflow.Fail("the texts are too long for one answer; lower ROWS")
    try:
        translated = msgspec.json.decode(answer.text, type=dict[str, str])
    except msgspec.DecodeError:
        raise agentflow.Retry(f"no translation but {answer.stop_reason}") from None
    return [translated[name] for name in fields]


def tasks_of(
    rows: Iterable[dict[str, str]], column: str, language: str, taken: deque[list[dict[str, str]]]
) -> Iterator[dict[str, Any]]:
    """A task for every few rows; the rows are put into `taken`, to be written with the result."""
    rows = iter(rows)
    for number in itertools.count():
        some = list(itertools.islice(rows, ROWS))
        if not some:
            return
        taken.append(some)
        params = {"texts": [row[column] for row in some], "language": language}
        # The same rows at the same place are the same task: started again, only the rest is paid.
        digest = hashlib.sha256(msgspec.json.encode([number, params])).hexdigest()[:16]
        yield {"id": f"translate-{digest}", "kind": "translate", "params": params}


async def main(reader: csv.DictReader[str], column: str, language: str) -> int:
    """Submit the tasks, write the rows as they come."""
    names = list(reader.fieldnames or [])
    if column not in names:
        print(f"there is no column {column!r}; there are {', '.join(names)}", file=sys.stderr)
        return 2
    writer = csv.DictWriter(sys.stdout, [*names, language])
    writer.writeheader()
    taken: deque[list[dict[str, str]]] = deque()
    failed = 0
    async with agentflow.connect() as client:
        tasks = tasks_of(reader, column, language, taken)
        async for result in client.map(tasks, queue="translations", ordered=True):
            rows = taken.popleft()
            texts = result.value if result.ok else [""] * len(rows)
            for row, text in zip(rows, texts, strict=True):
                writer.writerow({**row, language: text})
            if not result.ok:
                failed += 1
                print(result.failure(), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    with Path(sys.argv[1]).open(newline="", encoding="utf-8") as file:
        sys.exit(asyncio.run(main(csv.DictReader(file), *sys.argv[2:])))
