"""What stands in an input beside its tasks, joined to results that a log gave back."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from agentflow.job.beside import Beside
from agentflow.job.formats.template import Template
from agentflow.job.source import Reading, Source
from agentflow.protocol.jobs import Input
from agentflow.views.ledger import Line, line_of
from tests.unit.test_job_results import record


def source(path: Path, prompt: str | None = None, **how: Any) -> Source:
    template = None if prompt is None else Template(prompt)
    return Source(str(path), io.BytesIO(), Reading(template=template, **how))


def results(source: Source, *, without: int = 0) -> Iterator[Line]:
    """As the log has them: without anything of the input."""
    for item in source:
        if item.line != without:
            yield line_of(record(id=item.id), line=item.line, request=None, simulate=False)


def joined(source: Source, **how: Any) -> list[Line]:
    kept = msgspec.json.decode(msgspec.json.encode(source.origin), type=Input)
    found = Beside(kept)  # as the job's key has it
    assert found.lack == ""
    return list(found.joined(results(source, **how)))


def test_columns_come_from_the_input_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,note,n\n"two\nlines",a,1\n\nb,,2\nc,d,3\n')
    rows = source(path, "Rate {text}", carry=("text", "prompt"))
    assert [line.input for line in joined(rows)] == [item.carried for item in rows]
    assert [line.input["n"] for line in joined(rows, without=5)] == ["1", "3"]
    assert joined(rows)[0].input["prompt"] == "Rate two\nlines"


def test_custom_ids_come_from_the_input_again(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl.gz"
    one = {"custom_id": "a/1", "params": {"max_tokens": 5, "messages": [{"role": "user"}]}}
    one["params"]["messages"][0]["content"] = "x"  # type: ignore[index]
    path.write_bytes(gzip.compress(b"\n".join([json.dumps(one).encode()] * 2)))
    assert [line.custom_id for line in joined(source(path))] == ["a/1", "a/1"]


def test_an_input_that_says_nothing_beside_its_tasks_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    assert source(path).origin is None
    assert Beside(None).lack == ""


def test_an_input_that_is_gone_or_another_gives_nothing_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,note\nx,a\n")
    rows = source(path)
    lines = list(results(rows))
    origin = rows.origin
    assert origin is not None
    path.write_text("prompt,note\nx,other\n")
    changed = Beside(origin)
    assert changed.lack == f"{path} has changed since"
    assert list(changed.joined(iter(lines))) == lines
    path.unlink()
    assert "cannot read" in Beside(origin).lack
    stdin = Source("-", io.BytesIO(b"prompt,note\nx,a\n"), Reading())
    assert Beside(stdin.origin).lack == "the input cannot be read again"
