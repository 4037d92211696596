"""What `submit` and `map` take by name."""

import inspect
from typing import Any

import pytest

from agentflow import sync
from agentflow.client import Client
from agentflow.client.tasks.options import DEFAULTS, MapOptions, SubmitOptions
from agentflow.client.tasks.submission import prepare
from agentflow.errors import InvalidTask
from agentflow.protocol import headers as blocks
from agentflow.protocol.task import FIELDS

ENVELOPE = {"queue", "priority", "lane", "reply", "needs"}


def test_no_field_of_a_task_is_missing() -> None:
    assert {*SubmitOptions.__annotations__, "prompt"} == {*FIELDS, *ENVELOPE}
    assert {*MapOptions.__annotations__, "id"} == {*FIELDS, *ENVELOPE}
    assert DEFAULTS.keys() <= ENVELOPE


def test_help_spells_the_options_out() -> None:
    for kind in (Client, sync.SyncClient):
        shown = inspect.signature(kind.submit).parameters
        assert {*FIELDS, *ENVELOPE} <= shown.keys()
        assert shown["queue"].default == "default"
        assert shown["max_tokens"].annotation == "int | None"
        assert {"concurrency", "ordered", "model"} <= inspect.signature(kind.map).parameters.keys()


def test_a_task_with_a_schema_is_left_to_workers_that_know_it() -> None:
    message = prepare({"prompt": "x", "schema": {"type": "object"}}, task_id="a")
    headers = blocks.decode(message.block)
    assert headers["Agentflow-Needs"] == "schema"
    assert "Agentflow-Needs" not in blocks.decode(prepare({"prompt": "x"}, task_id="a").block)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"schema": {"type": "objct"}}, "objct"),
        ({"schema": {"$ref": "http://127.0.0.1:1/"}}, "nothing is fetched"),
        ({"schema": [1]}, "Expected `object"),
        ({"schema": {}, "kind": "echo"}, "kind echo"),
        ({"schema": {}, "repair": 11}, "repair"),
        ({"repair": 1}, "give a schema"),
    ],
)
def test_what_a_worker_would_refuse_of_a_schema_is_refused_here(
    fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidTask, match=why):
        prepare({"prompt": "x", **fields}, task_id="a")
