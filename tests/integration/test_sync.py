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
    TaskFailed,
    UsageError,
)
from agentflow.sync import SyncFlow, SyncTask
from agentflow.testing import Stack
from agentflow.testing.plugin import agentflow_stack

__all__ = ["agentflow_stack"]


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_nothing_of_the_client_is_missing() -> None:
    def public(cls: type) -> set[str]:
        return {name for name, value in vars(cls).items() if callable(value) and name[0] != "_"}

    assert public(agentflow.Flow) - public(SyncFlow) == {"open", "expect", "live"}
    assert public(TaskHandle) - public(SyncTask) <= {
        "record",
        "expect",
        "expect_nothing",
        "awaited",
    }


def test_submit_result_get_list_cancel(agentflow_stack: Stack) -> None:
    agentflow_stack.master()
    with agentflow.sync.connect(agentflow_stack.url) as flow:
        task = flow.submit("hello", kind="echo", labels={"a": "b"})
        assert task.result(timeout=20).text == "hello"
        assert flow.get(task.id).ok
        assert [view.id for view in flow.list(label={"a": "b"})] == [task.id]
        assert flow.stats().ready
        assert flow.workers()
        long = flow.submit(kind="sleep", params={"seconds": 60})
        with pytest.raises(ResultTimeout):
            long.result(0.1)
        assert flow.cancel(long.id).state == "cancelled"
        with pytest.raises(TaskCancelled):
            flow.task(long.id).result(20)
        states = [event.record.state for event in task.watch() if event.record]
        assert states == ["succeeded"]
        with pytest.raises(InvalidTask):
            flow.submit("x", max_tokens=-1)
    assert "agentflow" not in threads()
    with pytest.raises(NotConnected, match="closed"):
        flow.get(task.id)
    flow.close()


async def test_it_works_inside_a_running_loop(agentflow_stack: Stack) -> None:
    assert asyncio.get_running_loop().is_running()
    with agentflow.sync.connect() as flow:
        assert flow.submit("in a notebook", kind="echo").result(20).text == "in a notebook"


def test_map_takes_items_in_this_thread_as_there_is_room(agentflow_stack: Stack) -> None:
    flow = agentflow_stack.flow
    taken = yielded = ahead = 0

    def items() -> Iterator[str]:
        nonlocal taken, ahead
        for number in range(300):
            assert threading.current_thread() is threading.main_thread()
            taken += 1
            ahead = max(ahead, taken - yielded)
            if number == 100:
                # Another call from within the items.
                assert flow.submit("between", kind="echo").result(20).ok
            yield str(number)

    for result in flow.map(items(), concurrency=10, kind="echo"):
        assert result.ok
        yielded += 1
    assert yielded == 300
    assert ahead <= 10
    assert [r.text for r in flow.gather(["a", "b", "c"], kind="echo")] == ["a", "b", "c"]
    tasks = [flow.submit(str(number), kind="echo") for number in range(5)]
    assert {r.id for r in flow.as_completed(tasks, timeout=20)} == {task.id for task in tasks}
    assert list(flow.map([])) == []


def test_map_can_be_left_and_passes_errors_on(agentflow_stack: Stack) -> None:
    flow = agentflow_stack.flow

    def broken() -> Iterator[str]:
        yield "one"
        raise RuntimeError("no more")

    for result in flow.map((str(number) for number in range(1_000)), kind="echo"):
        assert result.ok
        break
    with pytest.raises(RuntimeError, match="no more"):
        list(flow.map(broken(), kind="echo"))
    with pytest.raises(InvalidTask, match="item 1"):
        list(flow.map(["fine", {"max_tokens": -1}], kind="echo"))
    with pytest.raises(UsageError, match="concurrency"):
        flow.map([], concurrency=0)
    agentflow_stack.simulator.add_script([{"status": 400}])
    with pytest.raises(TaskFailed):
        flow.gather(["x"], raise_on_failure=True)
    assert flow.submit("still there", kind="echo").result(20).ok


def test_who_cannot_connect_leaves_no_thread() -> None:
    with pytest.raises(NotConnected):
        agentflow.sync.connect("nats://127.0.0.1:1")
    assert "agentflow" not in threads()


SCRIPT = """
import agentflow
flow = agentflow.sync.connect()
print(flow.submit("hi", kind="echo").result(20).text, flush=True)
try:
    flow.submit(kind="sleep", params={"seconds": 60}, id="long").result()
except KeyboardInterrupt:
    print("interrupted", flow.get("long").state, flush=True)
for result in flow.map(({"kind": "sleep", "params": {"seconds": 60}} for _ in range(9))):
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
    flow = agentflow_stack.flow

    def runs(count: int) -> None:
        deadline = time.monotonic() + 60
        while len(flow.list(state="running")) < count:
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
