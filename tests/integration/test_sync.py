"""The client without await, on a real stack in another thread."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import agentflow
from agentflow.client import TaskHandle
from agentflow.errors import (
    InvalidTask,
    NotConnected,
    ResultTimeout,
    TaskCancelled,
    TaskError,
    TaskFailed,
    UsageError,
)
from agentflow.sync import SyncClient, SyncTask
from agentflow.testing import Stack
from agentflow.testing.plugin import agentflow_stack

__all__ = ["agentflow_stack"]


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_nothing_of_the_client_is_missing() -> None:
    def public(cls: type) -> set[str]:
        return {name for name, value in vars(cls).items() if callable(value) and name[0] != "_"}

    assert public(agentflow.Client) - public(SyncClient) == {"open", "expect", "live"}
    assert public(TaskHandle) - public(SyncTask) <= {
        "record",
        "expect",
        "expect_nothing",
        "awaited",
    }


def test_submit_result_get_list_cancel(agentflow_stack: Stack) -> None:
    agentflow_stack.master()
    with agentflow.sync.connect(agentflow_stack.url) as client:
        task = client.submit("hello", kind="echo", labels={"a": "b"})
        assert task.result(timeout=20).text == "hello"
        assert client.get(task.id).ok
        assert [view.id for view in client.list(label={"a": "b"})] == [task.id]
        assert client.stats().ready
        assert client.workers()
        long = client.submit(kind="sleep", params={"seconds": 60})
        with pytest.raises(ResultTimeout):
            long.result(0.1)
        assert client.cancel(long.id).state == "cancelled"
        with pytest.raises(TaskCancelled):
            client.task(long.id).result(20)
        states = [event.record.state for event in task.watch() if event.record]
        assert states == ["succeeded"]
        with pytest.raises(InvalidTask):
            client.submit("x", max_tokens=-1)
    assert "agentflow" not in threads()
    with pytest.raises(NotConnected, match="closed"):
        client.get(task.id)
    client.close()


async def test_it_works_inside_a_running_loop(agentflow_stack: Stack) -> None:
    assert asyncio.get_running_loop().is_running()
    with agentflow.sync.connect() as client:
        assert client.submit("in a notebook", kind="echo").result(20).text == "in a notebook"


def test_map_takes_items_in_this_thread_as_there_is_room(agentflow_stack: Stack) -> None:
    client = agentflow_stack.client
    taken = yielded = ahead = 0

    def items() -> Iterator[str]:
        nonlocal taken, ahead
        for number in range(300):
            assert threading.current_thread() is threading.main_thread()
            taken += 1
            ahead = max(ahead, taken - yielded)
            if number == 100:
                # Another call from within the items.
                assert client.submit("between", kind="echo").result(20).ok
            yield str(number)

    for result in client.map(items(), concurrency=10, kind="echo"):
        assert result.ok
        yielded += 1
    assert yielded == 300
    assert ahead <= 10
    assert [r.text for r in client.gather(["a", "b", "c"], kind="echo")] == ["a", "b", "c"]
    tasks = [client.submit(str(number), kind="echo") for number in range(5)]
    assert {r.id for r in client.as_completed(tasks, timeout=20)} == {task.id for task in tasks}
    assert list(client.map([])) == []


def test_map_and_result_give_a_class(agentflow_stack: Stack) -> None:
    client = agentflow_stack.client
    assert client.submit("[1, 2]", kind="echo").result(20, type=list[int]) == [1, 2]
    texts = client.map(["3", "4"], kind="echo", ordered=True, type=int)
    assert list(texts) == [3, 4]
    assert list(client.map(["x"], kind="echo", type=str)) == ["x"]
    with pytest.raises(TaskError, match="is no int"):
        list(client.map(["x"], kind="echo", type=int))


def test_map_can_be_left_and_passes_errors_on(agentflow_stack: Stack) -> None:
    client = agentflow_stack.client

    def broken() -> Iterator[str]:
        yield "one"
        raise RuntimeError("no more")

    for result in client.map((str(number) for number in range(1_000)), kind="echo"):
        assert result.ok
        break
    results = client.map(broken(), kind="echo")
    assert next(results).text == "one", "it was paid"
    with pytest.raises(RuntimeError, match="no more"):
        next(results)
    with pytest.raises(InvalidTask, match="item 1"):
        list(client.map(["fine", {"max_tokens": -1}], kind="echo"))
    with pytest.raises(UsageError, match="concurrency"):
        client.map([], concurrency=0)
    agentflow_stack.simulator.add_script([{"status": 400}])
    with pytest.raises(TaskFailed):
        client.gather(["x"], raise_on_failure=True)
    assert client.submit("still there", kind="echo").result(20).ok


def test_who_cannot_connect_leaves_no_thread() -> None:
    with pytest.raises(NotConnected):
        agentflow.sync.connect("nats://127.0.0.1:1")
    assert "agentflow" not in threads()


SCRIPT = """
import agentflow
client = agentflow.sync.connect()
print(client.submit("hi", kind="echo").result(20).text, flush=True)
try:
    client.submit(kind="sleep", params={"seconds": 60}, id="long").result()
except KeyboardInterrupt:
    print("interrupted", client.get("long").state, flush=True)
for result in client.map(({"kind": "sleep", "params": {"seconds": 60}} for _ in range(9))):
    pass
"""


def test_a_script_ends_by_itself_and_by_ctrl_c(agentflow_stack: Stack) -> None:
    script = [sys.executable, "-c", SCRIPT]
    process = subprocess.Popen(
        script,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    client = agentflow_stack.client

    def runs(count: int) -> None:
        deadline = time.monotonic() + 60
        while len(client.list(state="running")) < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    agentflow_stack.master()
    runs(1)
    process.send_signal(signal.SIGINT)
    runs(10)  # it went on after the first, without closing anything
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out.split("\n")[:2] == ["hi", "interrupted running"]
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "Exception ignored" not in err
