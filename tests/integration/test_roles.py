"""nats.conf itself: what each role may, through our own programs, and what the server refuses."""

import asyncio
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import pytest

from agentflow.bus.streams.bucket import Board
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.client import Client
from agentflow.config import Connect
from agentflow.errors import BusError, NoStream, PermissionDenied, TaskFailed
from agentflow.protocol import limits, subjects
from agentflow.protocol.record import State
from agentflow.views import feed
from agentflow.worker import consumers
from agentflow.worker.worker import Worker
from tests.support.deployment import EVERY, Deployment, Process, Violation, variable, whole
from tests.support.nats_server import binary
from tests.support.until import until

ROLES = ["submitter", "worker", "master", "viewer", "operator", "gateway"]


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployment]:
    """The server alone."""
    server = Deployment(tmp_path / "nats", config=whole(tmp_path / "config")).start()
    yield server
    server.stop()


class Stack:
    """Server, master and worker, each under its role."""

    def __init__(self, folder: Path) -> None:
        self.server = Deployment(folder / "nats", config=whole(folder / "config")).start()
        self.master = Process(folder / "master.log", self.server.environment("master"), ["master"])
        self.master.until("is ready")
        self.worker = Process(
            folder / "worker.log",
            self.server.environment("worker"),
            ["worker", "--kinds", "echo,sleep", "--queues", "default,other"],
        )
        self.worker.until("slots on")

    def client(self, role: str) -> Client:
        return Client(self.server.options(role))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack; at the end nobody has tried what he may not."""
    found = Stack(tmp_path_factory.mktemp("roles"))
    yield found
    codes = [part.stop() for part in (found.worker, found.master)]
    found.server.stop()
    assert codes == [0, 0]
    # The doctor finds out what it may by trying.
    assert found.server.violations("worker", besides="agentflow doctor") == []
    assert found.server.violations("master", besides="agentflow doctor") == []


# -------------------------------------------------------------------- passwords


def test_the_server_does_not_start_without_a_password_for_each_role(tmp_path: Path) -> None:
    config = whole(tmp_path)
    for role in EVERY:
        others = {variable(other): '"x"' for other in EVERY if other != role}
        done = subprocess.run(
            [binary(), "-t", "-c", str(config)],
            env=others,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=30,
        )
        assert done.returncode != 0
        assert variable(role) in done.stdout + done.stderr


@pytest.mark.parametrize("role", EVERY)
async def test_a_role_enters_with_its_own_password_only(deployed: Deployment, role: str) -> None:
    async with await Connection.open(deployed.options(role)):
        pass
    for password in (None, "wrong", f'"{EVERY[role]}"'):
        with pytest.raises(PermissionDenied, match="does not accept these credentials"):
            await Connection.open(Connect(urls=(deployed.url,), user=role, password=password))
    with pytest.raises(PermissionDenied, match="does not accept these credentials"):
        await Connection.open(Connect(urls=(deployed.url,)))


def test_it_listens_on_loopback_and_tells_its_health(deployed: Deployment) -> None:
    url = f"http://127.0.0.1:{deployed.monitoring_port}"
    with urllib.request.urlopen(f"{url}/healthz") as answer:
        assert json.load(answer) == {"status": "ok"}
    with urllib.request.urlopen(f"{url}/varz") as answer:
        shown = json.load(answer)
    assert shown["host"] == shown["http_host"] == "127.0.0.1"
    assert shown["max_payload"] == 8 * 1024 * 1024
    assert shown["jetstream"]["config"]["sync_interval"] == 1_000_000_000


# --------------------------------------------------------------------- refusals

CREATE = "$JS.API.STREAM.CREATE.AGENTFLOW_TASKS"
REFUSED = {
    "viewer": [
        "agentflow.tasks.default",
        "agentflow.tasks.default.high",
        "agentflow.api.submit",
        "agentflow.api.run",
        "agentflow.progress.x",
        "agentflow.results.x",
        "agentflow.schedule.x.1",
        "agentflow.due.default.normal",
        "agentflow.dead.default.x",
        "agentflow.live.results.x",
        "agentflow.tokens.x",
        "agentflow.control.worker",
        "agentflow.control.worker.x",
        "agentflow.presence.worker.x",
        "$KV.agentflow.pause.default",
        "$JS.API.STREAM.MSG.DELETE.AGENTFLOW_TASKS",
        "$JS.API.STREAM.PURGE.AGENTFLOW_TASKS",
        "$JS.API.CONSUMER.CREATE.AGENTFLOW_RECORDS.mine",
        "$JS.API.CONSUMER.MSG.NEXT.AGENTFLOW_TASKS.default-normal",
        CREATE,
    ],
    "submitter": [
        "agentflow.progress.x",
        "agentflow.schedule.x.1",
        "agentflow.due.default.normal",
        "agentflow.live.results.x",
        "agentflow.tokens.x",
        "agentflow.control.master",
        "agentflow.presence.worker.x",
        "$KV.agentflow.pause.default",
        "$KV.agentflow.lease.master",
        "$JS.API.STREAM.DELETE.AGENTFLOW_TASKS",
        "$JS.API.STREAM.PURGE.AGENTFLOW_TASKS",
        "$JS.API.STREAM.PURGE.AGENTFLOW_RECORDS",
        "$JS.API.STREAM.MSG.DELETE.AGENTFLOW_RECORDS",
        "$JS.API.CONSUMER.CREATE.AGENTFLOW_TASKS.mine",
        "$JS.API.CONSUMER.DELETE.AGENTFLOW_TASKS.default-normal",
        "$JS.API.CONSUMER.MSG.NEXT.AGENTFLOW_TASKS.default-normal",
        "$JS.ACK.AGENTFLOW_TASKS.default-normal.1.1.1.1.0",
        CREATE,
    ],
    "operator": [
        "agentflow.progress.x",
        "agentflow.schedule.x.1",
        "agentflow.due.default.normal",
        "agentflow.live.results.x",
        "agentflow.presence.worker.x",
        "$KV.agentflow.lease.master",
        "$KV.agentflow.token.x",
        "$JS.API.STREAM.DELETE.AGENTFLOW_TASKS",
        "$JS.API.STREAM.PURGE.AGENTFLOW_RECORDS",
        "$JS.API.CONSUMER.CREATE.AGENTFLOW_TASKS.mine",
        "$JS.API.CONSUMER.MSG.NEXT.AGENTFLOW_TASKS.default-normal",
        CREATE,
    ],
    "gateway": [
        "agentflow.progress.x",
        "agentflow.schedule.x.1",
        "agentflow.live.results.x",
        "agentflow.presence.worker.x",
        "$KV.agentflow.lease.master",
        "$JS.API.STREAM.DELETE.AGENTFLOW_TASKS",
        "$JS.API.STREAM.PURGE.AGENTFLOW_RECORDS",
        "$JS.API.CONSUMER.MSG.NEXT.AGENTFLOW_TASKS.default-normal",
        CREATE,
    ],
    "worker": [
        "agentflow.tasks.default",
        "agentflow.due.default.normal",
        "agentflow.live.results.x",
        "agentflow.api.submit",
        "agentflow.api.list",
        "agentflow.control.master",
        "agentflow.presence.master.x",
        "$KV.agentflow.lease.master",
        "$JS.API.STREAM.MSG.GET.AGENTFLOW_DEAD",
        "$JS.API.STREAM.MSG.DELETE.AGENTFLOW_TASKS",
        "$JS.API.STREAM.PURGE.AGENTFLOW_SCHEDULE",
        "$JS.API.STREAM.UPDATE.AGENTFLOW_RECORDS",
        "$JS.API.CONSUMER.DELETE.AGENTFLOW_TASKS.default-normal",
        "$JS.API.CONSUMER.CREATE.AGENTFLOW_RECORDS.mine",
        CREATE,
    ],
    "master": [
        "agentflow.schedule.x.1",
        "agentflow.due.default.normal",
        "agentflow.dead.default.x",
        "agentflow.live.results.x",
        "agentflow.tokens.x",
        "agentflow.presence.worker.x",
        "$JS.API.STREAM.DELETE.AGENTFLOW_TASKS",
        "$JS.API.STREAM.UPDATE.AGENTFLOW_TASKS",
        "$JS.API.STREAM.PURGE.AGENTFLOW_TASKS",
        "$JS.API.STREAM.CREATE.OTHER",
        "$JS.API.CONSUMER.MSG.NEXT.AGENTFLOW_TASKS.default-normal",
        "$JS.ACK.AGENTFLOW_TASKS.default-normal.1.1.1.1.0",
    ],
}
UNHEARD = {
    "viewer": ["agentflow.tasks.>", "agentflow.control.>", "agentflow.api.*", "$SRV.PING"],
    "submitter": ["agentflow.tasks.>", "agentflow.control.worker", "agentflow.api.*"],
    "operator": ["agentflow.tasks.>", "agentflow.control.master", "agentflow.api.*"],
    "gateway": ["agentflow.tasks.>", "agentflow.control.worker", "agentflow.api.*"],
    "worker": ["agentflow.tasks.>", "agentflow.live.results.>", "agentflow.control.master"],
    "master": ["agentflow.tasks.>", "agentflow.progress.>", "agentflow.control.worker"],
}


@pytest.mark.parametrize("role", ROLES)
async def test_what_a_role_may_not_publish_is_refused_and_logged(
    deployed: Deployment, role: str
) -> None:
    async with await Connection.open(deployed.options(role)) as connection:
        for subject in REFUSED[role]:
            with pytest.raises(PermissionDenied, match="may not publish"):
                await connection.request(subject, b"{}", timeout=5)
    expected = {Violation(role, "Publish", subject) for subject in REFUSED[role]}
    assert expected == set(deployed.violations())


@pytest.mark.parametrize("role", ROLES)
async def test_what_a_role_may_not_hear_is_refused_and_logged(
    deployed: Deployment, role: str
) -> None:
    inboxes = ["_INBOX.>", *(f"_INBOX.{other}.>" for other in ROLES if other != role)]

    # nats-py itself: what the server says must not depend on how our client takes it.
    async def ignore(_: Exception) -> None: ...

    client = await nats.connect(deployed.url, user=role, password=EVERY[role], error_cb=ignore)
    try:
        for subject in [*inboxes, *UNHEARD[role], ">"]:
            await client.subscribe(subject)
        wanted = {*inboxes, *UNHEARD[role], ">"}
        await until(lambda: {each.subject for each in deployed.violations(role)} >= wanted)
    finally:
        await client.close()


@pytest.mark.parametrize("role", ROLES)
async def test_without_its_inbox_prefix_a_role_is_told(deployed: Deployment, role: str) -> None:
    options = Connect(urls=(deployed.url,), user=role, password=EVERY[role])
    with pytest.raises(PermissionDenied, match="AGENTFLOW_INBOX_PREFIX"):
        await Connection.open(options)


# ------------------------------------------------- without streams, and who makes them


def test_a_worker_that_may_not_make_the_streams_says_what_to_do_and_waits(
    deployed: Deployment,
) -> None:
    worker = Process(
        deployed.folder / "worker.log", deployed.environment("worker"), ["worker", "--kinds=echo"]
    )
    worker.until("agentflow streams apply")
    applied = deployed.run("admin", "streams", "apply")
    assert applied.returncode == 0, applied.stderr
    worker.until("slots on")
    assert worker.stop() == 0


async def test_a_worker_without_streams_gives_up(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "STREAMS_WITHIN", -1)
    async with await Connection.open(deployed.options("worker")) as connection:
        with pytest.raises(BusError, match="agentflow streams apply"):
            await Worker(connection, {}).start()


async def test_a_submitter_without_streams_is_told_who_makes_them(deployed: Deployment) -> None:
    async with Client(deployed.options("submitter"), patience=1) as client:
        with pytest.raises(NoStream, match="agentflow streams apply"):
            await client.submit("hello", kind="echo")


def test_a_master_makes_the_streams_and_changes_none(deployed: Deployment) -> None:
    log = deployed.folder / "master.log"
    master = Process(log, deployed.environment("master"), ["master"])
    master.until("is ready")
    assert master.stop() == 0
    shown = deployed.run("viewer", "streams", "show")
    assert "All as defined." in shown.stdout, shown.stderr
    refused = deployed.run("master", "streams", "apply", "--replicas", "3")
    assert refused.returncode == 1
    assert "may not publish to $JS.API.STREAM.UPDATE.AGENTFLOW_TASKS" in refused.stderr


# --------------------------------------------------------------- the stack under roles


async def state(client: Client, task_id: str, wanted: State) -> None:
    """Return when the task's log says so."""
    async for event in client.watch(task_id):
        if event.record is not None and event.record.state == wanted:
            return


async def test_a_submitter_runs_tasks_and_sees_them(stack: Stack) -> None:
    async with stack.client("submitter") as client:
        task = await client.submit("hello", kind="echo", labels={"team": "x"})
        assert (await task.result(timeout=20)).text == "hello"
        texts = {
            result.text
            async for result in client.map((f"n{number}" for number in range(100)), kind="echo")
        }
        assert texts == {f"n{number}" for number in range(100)}
        events = []
        watched = await client.submit(kind="sleep", params={"seconds": 0.2}, queue="other")
        async for event in client.watch(watched.id):
            events.append(event)
        assert events[-1].record is not None
        assert events[-1].record.state == State.SUCCEEDED
        assert (await client.get(task.id)).text == "hello"
        assert task.id in [view.id for view in await client.list(label={"team": "x"})]
        assert (await client.stats()).workers == 1
        assert not await client.unserved("default")
    assert stack.server.violations("submitter") == []


async def test_a_submitter_cancels_what_runs_and_what_waits(stack: Stack) -> None:
    async with stack.client("submitter") as client:
        running = await client.submit(kind="sleep", params={"seconds": 60})
        await state(client, running.id, State.RUNNING)
        later = await client.submit(
            "later", kind="echo", not_before=datetime.now(UTC) + timedelta(hours=1)
        )
        await state(client, later.id, State.SCHEDULED)
        unserved = await client.submit("nobody", kind="echo", queue="nobody")
        for task in (running, later, unserved):
            assert (await task.cancel()).state == State.CANCELLED
        left = await client.js.last(subjects.SCHEDULE, f"agentflow.schedule.{later.id}.*")
        assert left is None
        assert await client.js.last(subjects.TASKS, "agentflow.tasks.nobody") is None
    assert stack.server.violations("submitter") == []


async def test_a_submitter_retries_what_failed(stack: Stack) -> None:
    async with stack.client("submitter") as client:
        long = {"seconds": 60}
        task = await client.submit(kind="sleep", params=long, timeout=0.1, max_attempts=1)
        with pytest.raises(TaskFailed):
            await task.result(timeout=20)
        again = await client.retry(task.id)
        assert await client.js.last(subjects.DEAD, subjects.dead("*", task.id)) is None
        with pytest.raises(TaskFailed):
            await again.result(timeout=20)
    assert stack.server.violations("submitter") == []


async def test_a_task_too_long_for_a_message(stack: Stack) -> None:
    text = "x" * (limits.TASK_BYTES + 1)
    async with stack.client("submitter") as client:
        task = await client.submit(text, kind="echo")
        assert (await task.result(timeout=30)).text == text
    assert stack.server.violations("submitter") == []


def test_a_submitter_at_the_command_line(stack: Stack) -> None:
    done = stack.server.run("submitter", "submit", "hello", "--kind", "echo", "--wait")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_job_runs_as_a_submitter(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "a", "kind": "echo"}\n' * 3)
    done = stack.server.run(
        "submitter",
        "run",
        str(tmp_path / "in.jsonl"),
        "--out",
        str(tmp_path / "out.jsonl"),
        "--nats",
        stack.server.url,
    )
    assert done.returncode == 0, done.stderr


def test_a_submitter_uses_the_cache_that_an_administrator_makes(
    stack: Stack, tmp_path: Path
) -> None:
    tasks = tmp_path / "cached.jsonl"
    tasks.write_text('{"prompt": "hello", "kind": "echo"}\n')
    job = ("run", str(tasks), "--cache", "9", "--json", "-o", str(tmp_path / "out.jsonl"))
    without = stack.server.run("submitter", *job)
    assert without.returncode == 3
    assert "`agentflow cache create` as an administrator does" in without.stderr
    refused = stack.server.run("submitter", "cache", "create")
    assert refused.returncode == 3
    assert stack.server.run("admin", "cache", "create").returncode == 0
    done = stack.server.run("submitter", *job)
    assert done.returncode == 0, done.stderr
    for role in ("viewer", "submitter", "admin"):
        shown = stack.server.run(role, "cache", "stats")
        assert shown.returncode == 0, shown.stderr
    assert stack.server.run("submitter", "cache", "prune").returncode == 0  # it is empty
    assert stack.server.run("viewer", "streams", "diff").returncode == 0


async def test_a_viewer_sees_everything(stack: Stack) -> None:
    async with stack.client("submitter") as client, stack.client("viewer") as viewer:
        watching = viewer.watch()
        first = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0)
        task = await client.submit("seen", kind="echo")
        await task.result(timeout=20)
        found = await asyncio.wait_for(first, 20)
        assert found.id
        await watching.aclose()
        assert (await viewer.get(task.id)).text == "seen"
        assert (await viewer.task(task.id).result(timeout=20)).text == "seen"
        assert [view.id for view in await viewer.list(limit=1)]
        assert len(await viewer.workers()) == 1


async def test_a_viewer_has_the_whole_live_feed(stack: Stack) -> None:
    before = stack.server.violations("viewer")
    async with stack.client("submitter") as client, stack.client("viewer") as viewer:
        task = await client.submit("seen", kind="echo")
        await task.result(timeout=20)
        items = await viewer.snapshot()
        assert await viewer.prompt(task.id) is None
        assert [entry.state for _, entry in await viewer.history.log(task.id)] == [
            "running",
            "succeeded",
        ]
        assert await viewer.history.span()
    kinds = {type(item) for item in items}
    wanted = {feed.Link, feed.Rows, feed.Loading, feed.Gates, feed.Depths, feed.Beat}
    assert kinds == wanted, [item for item in items if isinstance(item, feed.Note)]
    assert stack.server.violations("viewer") == before


def test_a_viewer_at_the_command_line(stack: Stack) -> None:
    submitted = stack.server.run(
        "submitter", "submit", "shown", "--kind", "echo", "--wait", "--json"
    )
    task_id = json.loads(submitted.stdout.splitlines()[-1])["id"]
    for command in (["list"], ["stats"], ["workers"], ["get", task_id], ["streams", "show"]):
        deadline = time.monotonic() + 30
        while "No master answers" in (done := stack.server.run("viewer", *command)).stderr:
            assert time.monotonic() < deadline, "it is busy, and not away"
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout
    watch = Process(
        stack.server.folder / "watch.log", stack.server.environment("viewer"), ["watch", "--json"]
    )
    deadline = time.monotonic() + 30
    while not watch.log.read_text() and time.monotonic() < deadline:
        # What is told before the watcher listens is not told to it.
        stack.server.run("submitter", "submit", "watched", "--kind", "echo")
    watch.stop()
    assert watch.log.read_text()
    refused = stack.server.run("viewer", "submit", "hello", "--kind", "echo")
    assert refused.returncode == 3
    assert "may not publish to agentflow.tasks.default" in refused.stderr
    refusal = Violation("viewer", "Publish", "agentflow.tasks.default")
    assert refusal in stack.server.violations("viewer")


async def test_a_viewer_cannot_cancel(stack: Stack) -> None:
    async with stack.client("submitter") as client, stack.client("viewer") as viewer:
        task = await client.submit(kind="sleep", params={"seconds": 60})
        await state(client, task.id, State.RUNNING)
        with pytest.raises(PermissionDenied, match=r"agentflow\.results"):
            async with asyncio.timeout(20):
                await viewer.cancel(task.id)
        assert (await client.get(task.id)).state == State.RUNNING
        await task.cancel()


@pytest.mark.parametrize("role", [*ROLES, "admin"])
def test_the_doctor_finds_no_failure_under_any_role(stack: Stack, role: str) -> None:
    done = stack.server.run(role, "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bool(stack.server.violations(role)) == (role != "admin")


def test_the_admin_pauses_what_a_submitter_may_not(stack: Stack) -> None:
    for role in ("submitter", "viewer"):
        refused = stack.server.run(role, "pause", "reports")
        assert refused.returncode == 3
        assert "may not publish to $KV.agentflow.pause.reports" in refused.stderr
    assert stack.server.run("admin", "pause", "reports").returncode == 0
    task = stack.server.run("submitter", "submit", "x", "--queue", "reports", "--json")
    task_id = json.loads(task.stdout.splitlines()[-1])["id"]
    for role in ("submitter", "viewer", "admin"):
        shown = stack.server.run(role, "pause")
        assert "queue reports is paused" in shown.stdout, shown.stderr
        why = stack.server.run(role, "why", task_id)
        assert "agentflow resume reports" in why.stdout, why.stderr
    assert stack.server.run("admin", "resume", "reports").returncode == 0


async def test_a_worker_may_close_a_pool_and_pause_a_kind(stack: Stack) -> None:
    async with await Connection.open(stack.server.options("worker")) as connection:
        board = Board(JetStream(connection))
        await board.start()
        for key in ("closed.pool.family", "pause.kind.claude"):
            await board.change(key, lambda _: b"{}")
            await board.change(key, lambda _: None)


def test_health_of_the_parts(stack: Stack) -> None:
    for role in ("worker", "master"):
        done = stack.server.run(role, "health", role)
        assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
    assert stack.server.run("viewer", "health").returncode == 0
