"""What stands for several things is several: a text is not walked by its letters."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import agentflow
from agentflow.errors import UsageError
from agentflow.testing import Stack
from agentflow.testing.plugin import agentflow_stack

__all__ = ["agentflow_stack"]

ONE = ["hi", b"hi", bytearray(b"hi"), memoryview(b"hi"), {"prompt": "hi"}, 7, None]


@pytest.mark.parametrize("one", ONE, ids=[type(one).__name__ for one in ONE])
async def test_one_thing_is_not_several(agentflow_stack: Stack, one: Any) -> None:
    async with agentflow_stack.connect() as client, client.live(lambda _: None) as live:
        client_calls: list[Callable[[], Any]] = [
            lambda: client.map(one, kind="echo"),
            lambda: client.as_completed(one),
            lambda: client.cancel_all(states=one),
            lambda: live.follow_tokens(one),
        ]
        for call in client_calls:
            with pytest.raises(UsageError, match=r"into a list|a list or a generator"):
                call()
        with pytest.raises(UsageError, match="asked for"):
            await client.gather(one, kind="echo")
    plain = agentflow_stack.client
    for method in (plain.map, plain.gather, plain.as_completed):
        with pytest.raises(UsageError, match="tasks are asked for"):
            method(one)
    with pytest.raises(UsageError, match="states are asked for"):
        list(plain.cancel_all(states=one))
    with pytest.raises(UsageError, match="queues are asked for"):
        agentflow_stack.worker(queues=one)


async def test_what_is_several_is_taken_as_before(agentflow_stack: Stack) -> None:
    async def slowly() -> AsyncIterator[str]:
        for text in ("one", "two"):
            yield text

    async with agentflow_stack.connect() as client:
        for items in (["one", "two"], ("one", "two"), iter(["one", "two"]), slowly()):
            results = await client.gather(items, kind="echo")
            assert [result.text for result in results] == ["one", "two"]
    plain: Any = agentflow_stack.client
    assert [result.text for result in plain.gather({"one": 1}.keys(), kind="echo")] == ["one"]
    with pytest.raises(UsageError, match="no async iterable"):
        plain.map(slowly(), kind="echo")


@pytest.mark.parametrize("field", ["prompt", "system", "model"])
async def test_bytes_are_no_text(agentflow_stack: Stack, field: str) -> None:
    options: Any = {"prompt": "x", "kind": "echo", field: b"hello"}
    async with agentflow_stack.connect() as client:
        with pytest.raises(UsageError, match="bytes"):
            await client.submit(**options)
        with pytest.raises(UsageError, match=r"item 0: .*bytes"):
            await client.gather([options])


@pytest.mark.parametrize("package", ["agentflow", "agentflow.testing"])
def test_the_public_names_are_seen_before_they_are_used(package: str) -> None:
    program = (
        f"import sys, {package} as package; assert set(package.__all__) <= set(dir(package));"
        "assert not {'nats', 'anthropic', 'textual'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert all(hasattr(agentflow, name) for name in dir(agentflow))
