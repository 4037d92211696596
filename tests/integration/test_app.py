"""Functions of one's own in a real worker, asking the simulated Claude."""

import asyncio
import contextlib
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import agentflow
from agentflow.cli import apps
from agentflow.errors import KeyMissing
from agentflow.handlers import registry
from agentflow.handlers.contract import AttemptFailed, Run
from agentflow.protocol import subjects
from agentflow.protocol.record import Record, State, Usage
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task
from agentflow.simulator import Simulator
from tests.integration.conftest import StartWorker
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]
USAGE = {"input_tokens": 100, "output_tokens": 10}


class Summary(msgspec.Struct):
    title: str
    words: int


@pytest.fixture(name="simulator")
async def _simulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Simulator]:
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "AGENTFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    async with Simulator() as simulator:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-0123456789")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.url)
        yield simulator
    gc.unfreeze()


@asynccontextmanager
async def at_work(
    app: agentflow.App, start_worker: StartWorker, **options: Any
) -> AsyncIterator[None]:
    async with app.open() as handlers:
        worker = await start_worker(handlers, **options)
        yield
        worker.actor.hurry.set()
        await worker.actor.close()


async def run_one(observer: Observer, kind: str, **fields: Any) -> Record:
    await observer.submit({"kind": kind, "id": "it", "params": {}, **fields})
    return await observer.ended("it")


def run_of(**fields: Any) -> Task:
    return Task(id="t", queue="default", priority=Priority.NORMAL, kind="k", **fields)


# What a function is given, and what becomes of what it returns.


async def test_an_async_function(
    observer: Observer, start_worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    app = agentflow.App()
    seen: list[Any] = []

    @app.task(kind="summarise", retries=3, timeout=60)
    async def summarise(ctx: agentflow.Context, path: Path, words: int = 50) -> Summary:
        seen.extend([ctx.attempt, ctx.fencing_token, ctx.task.labels])
        ctx.log.info("reading %s", path, extra={"size": 3})
        return Summary(title=path.name, words=words)

    with caplog.at_level(logging.INFO):
        async with at_work(app, start_worker):
            ended = await run_one(
                observer, "summarise", params={"path": "a/b.txt"}, labels={"l": "x"}
            )
    assert (ended.state, ended.value) == (State.SUCCEEDED, {"title": "b.txt", "words": 50})
    running = (await observer.state("it", State.RUNNING)).sequence
    assert seen == [1, running, {"l": "x"}]
    (line,) = [one for one in caplog.records if "reading" in one.message]
    assert line.message == "task it: reading a/b.txt"
    told = [getattr(line, name) for name in ("task_id", "attempt", "kind", "size")]
    assert told == ["it", 1, "summarise", 3]


async def test_plain_functions_run_in_threads_at_once(
    observer: Observer, start_worker: StartWorker
) -> None:
    app = agentflow.App()
    met = threading.Barrier(3, timeout=20)
    kept = threading.local()

    @app.task
    def meet(ctx: agentflow.SyncContext, number: int) -> str:
        met.wait()
        kept.number = number
        return threading.current_thread().name

    @app.task
    def again() -> int:
        return int(kept.number)

    async with at_work(app, start_worker):
        for number in range(3):
            await observer.submit({"kind": "meet", "id": f"m{number}", "params": {"number": 7}})
        names = {(await observer.ended(f"m{number}")).text for number in range(3)}
        ended = await run_one(observer, "again")
    assert len(names) == 3
    assert threading.current_thread().name not in names
    assert ended.value == 7, "a thread is used again"


async def test_arguments_that_do_not_fit_fail_the_task_at_once(
    observer: Observer, start_worker: StartWorker
) -> None:
    app = agentflow.App()

    @app.task(retries=3)
    def add(one: int, two: int) -> int:
        return one + two

    async with at_work(app, start_worker):
        ended = await run_one(observer, "add", params={"one": 1, "two": "2"})
    assert (ended.state, ended.attempt, ended.reason) == (State.FAILED, 1, "invalid")
    assert ended.error is not None
    assert ended.error.message == "task it: kind add: params.two: Expected `int`, got `str`"


@pytest.mark.parametrize("plain", [False, True], ids=["async", "sync"])
async def test_progress_is_written_now_and_then_and_at_the_end(
    plain: bool, observer: Observer, start_worker: StartWorker
) -> None:
    app = agentflow.App()

    def report(ctx: Any) -> None:
        for number in range(1_000):
            ctx.progress(number / 1_000, f"row {number}")
        ctx.progress(message="done")
        with pytest.raises(TypeError, match="a fraction from 0 to 1, a sentence, or both"):
            ctx.progress([50])

    if plain:
        app.task(kind="count")(lambda ctx: report(ctx))
    else:

        @app.task
        async def count(ctx: agentflow.Context) -> None:
            report(ctx)

    async with at_work(app, start_worker):
        ended = await run_one(observer, "count")
    assert ended.state == State.SUCCEEDED
    log = [entry.record for entry in await observer.log("it") if entry.record]
    told = [(one.progress, one.note) for one in log if one.note is not None]
    assert told[-1] == (0.999, "done")
    assert len(told) <= 3


# Asking Claude.


@pytest.mark.parametrize("plain", [False, True], ids=["async", "sync"])
async def test_what_its_requests_cost_is_the_tasks(
    plain: bool, observer: Observer, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.set_mode({"usage": USAGE, "content": "echo"})
    app = agentflow.App()

    if plain:

        @app.task(kind="ask")
        def ask(ctx: agentflow.SyncContext, prompt: str) -> list[str]:
            one = ctx.claude(prompt)
            two = ctx.claude("two", model="claude-haiku-5-5", system="Be brief", stream=True)
            return [one.text, two.text]

    else:

        @app.task(kind="ask")
        async def ask_async(ctx: agentflow.Context, prompt: str) -> list[str]:
            one, two = await asyncio.gather(
                ctx.claude(prompt),
                ctx.claude("two", model="claude-haiku-5-5", system="Be brief", stream=True),
            )
            return [one.text, two.text]

    async with at_work(app, start_worker):
        fields = {"prompt": "one", "model": "claude-opus-5-5", "params": None}
        ended = await run_one(observer, "ask", **fields)
    assert ended.value is not None
    assert [text.split()[-1] for text in ended.value] == ["one", "two"]
    assert ended.usage == Usage(input_tokens=200, output_tokens=20)
    asked = simulator.stats().log
    assert sorted(entry.model for entry in asked) == ["claude-haiku-5-5", "claude-opus-5-5"]
    assert simulator.stats().connections_total <= 2
    prices = registry.make_claude()
    await prices.start()
    costs = []
    for model in ("claude-opus-5-5", "claude-haiku-5-5"):
        alone = Run(run_of(prompt="x", model=model))
        await prices(alone)
        costs.append(alone.cost_micro or 0)
    await prices.close()
    assert ended.cost_usd == sum(costs) / 1e6 > 0
    assert ended.simulated
    assert ended.timings.first_token_s is not None
    shown = b"".join(message.data for message in observer.tokens["it"]).decode()
    assert shown == ended.value[1], "only what is asked to be streamed is shown"


async def test_tools_and_messages_pass_through(
    observer: Observer, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.set_mode({"tools": [{"name": "look", "input": {"at": "x"}}]})
    app = agentflow.App()
    tools = [{"name": "look", "description": "Looks", "input_schema": {"type": "object"}}]

    @app.task
    async def look(ctx: agentflow.Context, prompt: str) -> agentflow.ClaudeAnswer:
        messages: list[Any] = [{"role": "user", "content": prompt}]
        answer = await ctx.claude(messages=messages, tools=tools)
        (call,) = [block for block in answer.content if block["type"] == "tool_use"]
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": "seen"}
        messages += [
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": [result]},
        ]
        return await ctx.claude(messages=messages, tools=tools)

    async with at_work(app, start_worker):
        ended = await run_one(observer, "look", prompt="Look", params=None)
    assert (ended.state, ended.stop_reason) == (State.SUCCEEDED, "end_turn")
    assert ended.text


async def test_the_retry_table_decides_about_claudes_errors(
    observer: Observer, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.set_mode({"usage": USAGE})
    simulator.add_script([{"status": 529}], match="second")
    app = agentflow.App()

    @app.task
    async def twice(ctx: agentflow.Context) -> str:
        await ctx.claude("first")
        return (await ctx.claude("second")).text

    async with at_work(app, start_worker):
        ended = await run_one(observer, "twice")
        parked = (await observer.state("it", State.RETRYING)).record
    assert parked is not None
    assert parked.reason == "overloaded"
    assert parked.usage.input_tokens == 100, "what the first request cost is kept"
    assert (ended.state, ended.attempt) == (State.SUCCEEDED, 2)
    assert ended.usage.input_tokens == 300


async def test_requests_left_behind_are_ended_and_counted(
    observer: Observer, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.set_mode({"usage": USAGE})
    simulator.add_script([{"stall": 60}], match="slow")
    simulator.add_script([{"status": 400, "error_after": 0.2}], match="bad")
    app = agentflow.App()

    @app.task
    async def both(ctx: agentflow.Context) -> None:
        await asyncio.gather(ctx.claude("slow"), ctx.claude("bad"))

    async with at_work(app, start_worker):
        ended = await run_one(observer, "both")
        await simulator.wait_for(lambda: simulator.log.disconnects == 1)
    assert (ended.state, ended.reason) == (State.FAILED, "invalid_request")
    assert ended.usage.input_tokens == 100


async def test_a_request_that_means_nothing_is_not_tried_again(
    observer: Observer, start_worker: StartWorker, simulator: Simulator
) -> None:
    app = agentflow.App()

    @app.task
    async def ask(ctx: agentflow.Context) -> None:
        await ctx.claude()

    async with at_work(app, start_worker):
        ended = await run_one(observer, "ask")
    assert (ended.state, ended.attempt) == (State.FAILED, 1)
    assert ended.error is not None
    assert "ctx.claude needs either a prompt or messages" in ended.error.message
    assert simulator.stats().requests == 0


async def test_a_missing_key_is_told(
    observer: Observer,
    start_worker: StartWorker,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    app, careful = agentflow.App(), agentflow.App(claude=True)

    @careful.task
    @app.task
    async def ask(ctx: agentflow.Context) -> None:
        await ctx.claude("hi")

    async with at_work(app, start_worker):
        ended = await run_one(observer, "ask")
    assert (ended.state, ended.reason) == (State.FAILED, "authentication")
    with pytest.raises(KeyMissing):
        async with careful.open():
            pass


async def test_one_client_for_all(simulator: Simulator) -> None:
    app = agentflow.App(claude=True)

    @app.task
    async def ask(ctx: agentflow.Context, prompt: str) -> str:
        return (await ctx.claude(prompt)).text

    async with registry.open_handlers(["claude", "ask"], app.handlers()) as handlers:
        assert set(handlers) == {"claude", "ask"}
        await handlers["claude"](Run(run_of(prompt="a")))
        await handlers["ask"](Run(run_of(prompt="b")))
        own: Any = handlers["ask"]
        assert own.pools() == {}, "the other handler tells of the pool"
    assert simulator.stats().connections_total == 1
    async with registry.open_handlers(own=app.handlers()) as handlers:
        assert set(handlers) == {"ask"}
        await asyncio.gather(*(handlers["ask"](Run(run_of(prompt="b"))) for _ in range(3)))
        own = handlers["ask"]
        (families,) = own.pools().values()
        assert families["sonnet"]["refused"] == 0
    assert registry.load(["echo"], app.handlers()).keys() == {"echo"}
    with pytest.raises(agentflow.errors.UsageError, match="there are ask, claude, echo"):
        registry.load(["nothing"], app.handlers())


async def test_each_request_passes_the_gate(simulator: Simulator) -> None:
    simulator.add_script([{"status": 401}], match="bad")
    app = agentflow.App()
    passed: list[Any] = []

    @app.task
    async def ask(ctx: agentflow.Context) -> None:
        await ctx.claude("good", model="claude-opus-5-5")
        await ctx.claude("bad")

    @asynccontextmanager
    async def gate(route: tuple[str, str]) -> AsyncIterator[None]:
        passed.append(route[1])
        try:
            yield
        except AttemptFailed as error:
            passed.append(error.signal.status)
            raise

    def admit(route: tuple[str, str], part: Run | None) -> AbstractAsyncContextManager[None]:
        return gate(route)

    async with app.open() as handlers:
        with pytest.raises(AttemptFailed):
            await handlers["ask"](Run(run_of(), admit=admit))
    assert passed == ["opus", "sonnet", 401]


# How it ends.


async def test_retries_and_timeout_hold_for_tasks_that_name_none(
    observer: Observer, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.set_mode({"stall": 60, "usage": USAGE})
    app = agentflow.App(claude=True)

    @app.task(retries=1, timeout=0.4)
    async def hang(ctx: agentflow.Context) -> None:
        await ctx.claude("hi")

    async with at_work(app, start_worker):
        ended = await run_one(observer, "hang")
        await observer.submit({"kind": "hang", "id": "own", "params": {}, "max_attempts": 1})
        own = await observer.ended("own")
    assert (ended.state, ended.reason, ended.attempt) == (State.FAILED, "timeout", 2)
    assert ended.usage.input_tokens == 200, "what was generated until then was paid for"
    assert ended.error is not None
    assert "0.4 s" in ended.error.message
    assert (own.reason, own.attempt) == ("timeout", 1)


async def test_retry_fail_and_errors(observer: Observer, start_worker: StartWorker) -> None:
    app = agentflow.App()

    @app.task(retries=2)
    def fetch(ctx: agentflow.SyncContext, how: str) -> int:
        if how == "retry" and ctx.attempt < 3:
            raise agentflow.Retry("not there yet", delay=1)
        if how == "fail":
            raise agentflow.Fail("there is nothing", reason="nothing_there")
        if how == "error":
            raise StopIteration("a bug")
        if how == "exit":
            sys.exit(3)
        return ctx.attempt

    async with at_work(app, start_worker):
        for how in ("retry", "fail", "error", "exit"):
            await observer.submit({"kind": "fetch", "id": how, "params": {"how": how}})
        retried, failed, wrong, left = [
            await observer.ended(how) for how in ("retry", "fail", "error", "exit")
        ]
    assert (retried.state, retried.value, retried.failures) == (State.SUCCEEDED, 3, 2)
    parked = (await observer.state("retry", State.RETRYING)).record
    assert parked is not None
    assert parked.reason == "handler_retry"
    assert parked.error is not None
    assert parked.error.message == "not there yet"
    assert (failed.reason, failed.attempt) == ("nothing_there", 1)
    assert (wrong.reason, wrong.attempt) == ("handler_error", 3)
    assert wrong.error is not None
    assert wrong.error.message == "coroutine raised StopIteration", "as Python has it"
    assert (left.reason, left.attempt) == ("handler_error", 3)


async def test_a_thread_that_outlives_its_run_gives_its_slot_back(
    observer: Observer, start_worker: StartWorker
) -> None:
    app = agentflow.App()
    release = threading.Event()
    ends: list[str] = []

    @app.task(retries=0, timeout=0.2)
    def stubborn(ctx: agentflow.SyncContext) -> None:
        release.wait(30)
        assert ctx.cancelled
        with pytest.raises(asyncio.CancelledError):
            ctx.progress(1.0)
        try:
            ctx.claude("too late")
        except Exception:
            ends.append("as an exception that functions catch")
        except asyncio.CancelledError:
            ends.append("cancelled")

    @app.task
    def quick() -> str:
        return "here"

    def notes() -> list[str]:
        return [note for beat in observer.workers.values() for note in beat.notes]

    async with at_work(app, start_worker, slots=1):
        ended = await run_one(observer, "stubborn")
        await observer.submit({"kind": "quick", "id": "next", "params": {}})
        assert (await observer.ended("next")).text == "here"
        told = "1 thread of kind stubborn still run after the end of: it"
        await observer.until(lambda: told in notes())
        release.set()
        await observer.until(lambda: told not in notes())
    assert (ended.state, ended.reason) == (State.FAILED, "timeout")
    assert ends == ["cancelled"]


@pytest.mark.parametrize("plain", [False, True], ids=["async", "sync"])
async def test_a_cancelled_run_keeps_what_it_cost(
    plain: bool, observer: Observer, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.set_mode({"usage": USAGE, "stall": 60})
    app = agentflow.App(claude=True)
    ends: list[type[BaseException]] = []

    if plain:

        @app.task(kind="ask")
        def ask(ctx: agentflow.SyncContext) -> None:
            try:
                ctx.claude("hi", stream=True)
            except BaseException as error:
                ends.append(type(error))
                raise

    else:

        @app.task(kind="ask")
        async def ask_async(ctx: agentflow.Context) -> None:
            try:
                await ctx.claude("hi", stream=True)
            except BaseException as error:
                ends.append(type(error))
                raise

    async with at_work(app, start_worker):
        await observer.submit({"kind": "ask", "id": "it", "params": {}})
        await observer.until(lambda: "it" in observer.tokens)
        (worker,) = observer.workers.values()
        observer.connection.publish(
            subjects.control("worker", worker.actor), b'{"type":"cancel","id":"it"}'
        )
        ended = await observer.ended("it")
        await simulator.wait_for(lambda: simulator.log.disconnects == 1)
        async with asyncio.timeout(10):
            while not ends:
                await asyncio.sleep(0.01)
    assert ended.state == State.CANCELLED
    assert ended.usage.input_tokens == 100
    assert ends == [asyncio.CancelledError]


# The program.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(
        "import time\n"
        "import agentflow\n"
        "app = agentflow.App()\n"
        "@app.task\n"
        "def double(number: int) -> int:\n"
        "    return 2 * number\n"
        "@app.task\n"
        "def sleep_for_ever(ctx: agentflow.SyncContext) -> None:\n"
        "    ctx.progress(0.5, 'asleep')\n"
        "    time.sleep(1_000)\n"
    )
    return tmp_path


@pytest.fixture
def program(folder: Path, nats_server: NatsServer) -> Iterator[subprocess.Popen[bytes]]:
    """`agentflow worker tasks:app`, as installed: the folder is not on its path."""
    main = "import sys; sys.path.pop(0); from agentflow.cli import main; sys.exit(main())"
    arguments = ["worker", "tasks:app", "--nats", nats_server.url, "--grace", "0"]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AGENTFLOW")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", main, *arguments],
            cwd=folder,
            env=kept | {"HOME": str(folder), "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    yield process
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait(10)


async def test_the_program_runs_an_app_and_leaves_its_threads(
    program: subprocess.Popen[bytes], folder: Path, observer: Observer
) -> None:
    ended = await run_one(observer, "double", params={"number": 21})
    assert ended.value == 42
    (worker,) = observer.workers.values()
    assert worker.kinds == ["double", "sleep_for_ever"]
    await observer.submit({"kind": "sleep_for_ever", "id": "long", "params": {}})
    await observer.until(
        lambda: any(one.record and one.record.note for one in observer.live.get("long", []))
    )
    program.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        assert await asyncio.to_thread(program.wait, 20) == 0, (folder / "log").read_text()
    assert (await observer.last("long")).state == State.QUEUED, "handed back"


async def test_the_code_of_the_docs_works(
    observer: Observer,
    start_worker: StartWorker,
    simulator: Simulator,
    nats_server: NatsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (ROOT / "docs/handlers.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    (tmp_path / "tasks_of_docs.py").write_text(code)
    (tmp_path / "README.md").write_text("A text.")
    (tmp_path / "a.csv").write_text("a,b\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("AGENTFLOW_NATS", nats_server.url)
    app = apps.load("tasks_of_docs")
    docs: Any = sys.modules.pop("tasks_of_docs")
    own = ["debate", "review", "wait_for_file", "count", "report"]
    assert app.kinds == ["summarise", "confirm", *own]
    await docs.test_confirm()
    async with at_work(app, start_worker, queues=["texts", "default"]):
        summary = await docs.submit()
        assert await docs.submit_typed() == summary
        decided = await run_one(observer, "debate", prompt="Tabs", params=None)
        for task_id, fields in {
            "csv": {"kind": "wait_for_file", "params": {"path": "a.csv"}},
            "txt": {"kind": "wait_for_file", "params": {"path": "a.txt"}},
            "not-yet": {"kind": "wait_for_file", "params": {"path": "b.csv"}},
            "count": {"kind": "count", "params": {"to": 1_000}},
            "review": {"kind": "review", "prompt": "Fine."},
        }.items():
            await observer.submit({"id": task_id, **fields})
        assert (await observer.ended("csv")).value == 4
        assert (await observer.ended("txt")).reason == "wrong_file"
        assert (await observer.ended("count")).value == 1_000
        reviewed = (await observer.ended("review")).value
        assert reviewed == {"stars": 1, "complaints": ["SIMULATED"]}
        parked = (await observer.state("not-yet", State.RETRYING)).record
    assert summary.words == len(summary.text.split()) > 3
    assert decided.stop_reason == "end_turn"
    assert decided.text == b"".join(one.data for one in observer.tokens["it"]).decode()
    assert parked is not None
    assert parked.resume_at is not None
    assert 30 <= (parked.resume_at - parked.time).total_seconds() <= 36.1
