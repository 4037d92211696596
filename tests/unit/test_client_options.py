"""What `submit` and `map` take by name."""

import inspect

from agentflow import sync
from agentflow.client import Client
from agentflow.client.tasks.options import DEFAULTS, MapOptions, SubmitOptions
from agentflow.protocol.task import FIELDS

ENVELOPE = {"queue", "priority", "reply", "needs"}


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
