"""Tasks that are too long for a message: their payloads lie in the object bucket."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentflow.audit.trail import Kind
from agentflow.audit.verify import verify
from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.pages import page, stored_ns
from agentflow.bus.streams.payloads import Payloads
from agentflow.client import Client
from agentflow.config import Connect
from agentflow.errors import InvalidTask, StreamFull
from agentflow.handlers.contract import Outcome, Run
from agentflow.master import Master
from agentflow.protocol import headers as blocks
from agentflow.protocol import limits, subjects
from agentflow.protocol import payload as payloads
from agentflow.protocol.task import TaskBody
from tests.integration.conftest import StartWorker
from tests.support import masters, tools
from tests.support.nats_server import NatsServer

LONG = "é" * (limits.TASK_BYTES // 2 + 1)


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with Client(Connect(urls=(nats_server.url,))) as found:
        await provision.ensure_streams(found.js)
        yield found


async def told(run: Run) -> Outcome:
    """What the handler was given, in short."""
    task = run.task
    assert task.payload is None
    return Outcome(value=[len(task.prompt or ""), task.system, task.model, task.params])


async def objects(client: Client) -> dict[str, int]:
    info = await client.js.stream_info(subjects.OBJECTS, subjects_filter="$O.agentflow.>")
    return info["state"].get("subjects") or {}


async def test_a_task_too_long_for_a_message_comes_whole(
    client: Client, start_worker: StartWorker
) -> None:
    await start_worker({"told": told})
    task = await client.submit(
        LONG, kind="told", system="short", params={"model": "m", "x": [1]}, labels={"a": "b"}
    )
    result = (await task.result()).value
    assert result == [len(LONG), "short", None, {"model": "m", "x": [1]}]
    record = (await client.read(task.id)).record
    assert record is not None
    assert record.labels == {"a": "b"}


async def test_many_of_them_by_map_beside_short_ones(
    client: Client, start_worker: StartWorker
) -> None:
    await start_worker({"told": told})
    texts = [LONG, "short", LONG + "x", "also short"]
    results = await client.gather([{"prompt": text, "kind": "told"} for text in texts])
    assert [result.value[0] for result in results] == [len(text) for text in texts]


async def test_what_no_request_may_have_is_refused_before_it_is_sent(client: Client) -> None:
    with pytest.raises(InvalidTask, match="at most 33,554,432 are allowed"):
        await client.submit("x" * limits.PAYLOAD_BYTES)


async def test_the_largest_request_passes(client: Client, start_worker: StartWorker) -> None:
    await start_worker({"told": told})
    text = "x" * (limits.PAYLOAD_BYTES - 100)
    result = (await (await client.submit(text, kind="told")).result()).value
    assert result[0] == len(text)


async def test_its_message_is_short_and_asks_for_the_ability(client: Client) -> None:
    task = await client.submit(LONG, kind="told")
    stored = await client.js.get(subjects.TASKS, task.message_sequence)
    assert stored is not None
    assert stored.headers[subjects.NEEDS] == "payload"
    assert len(stored.data) < 300


async def store(client: Client, task_id: str, body: TaskBody, **change: Any) -> None:
    """Put a message into the queue past the client's checks."""
    fields = msgspec.to_builtins(body) | change
    headers = {subjects.ID: task_id, subjects.NEEDS: "payload"}
    await client.js.store(
        subjects.task("default"), msgspec.json.encode(fields), blocks.encode(headers)
    )


async def ended(client: Client, task_id: str) -> Any:
    async with asyncio.timeout(20):
        return await client.expect(task_id)


async def test_a_payload_that_is_gone_fails_the_task_with_a_sentence(
    client: Client, start_worker: StartWorker
) -> None:
    task = await client.submit(LONG, kind="told")
    await client.js.purge(subjects.OBJECTS, "$O.agentflow.M.>")
    await start_worker({"told": told})
    record = await ended(client, task.id)
    assert (record.state, record.reason, record.attempt) == ("failed", "payload_lost", 0)
    assert "is gone from the bucket OBJ_agentflow; submit the task again" in record.error.message


async def test_a_payload_that_is_another_fails_the_task(
    client: Client, start_worker: StartWorker
) -> None:
    task = await client.submit(LONG, kind="told")
    held = await objects(client)
    chunks = next(subject for subject in held if subject.startswith("$O.agentflow.C."))
    await client.js.purge(subjects.OBJECTS, chunks)
    for _ in range(9):
        await client.js.store(chunks, b"x" * limits.CHUNK_BYTES)
    await start_worker({"told": told})
    record = await ended(client, task.id)
    assert record.reason == "payload_lost"
    assert "is not what was stored" in record.error.message


REFERENCE = {"digest": "sha256:" + "0" * 64, "size": 1}


@pytest.mark.parametrize(
    "reference",
    [
        REFERENCE | {"bucket": "secrets"},
        REFERENCE | {"name": "../../etc/passwd"},
        REFERENCE | {"object": "another-task.0"},
        REFERENCE | {"digest": "sha256:" + "0" * 63 + ">"},
        REFERENCE | {"digest": "md5:0"},
        REFERENCE | {"size": limits.PAYLOAD_BYTES + 1},
        REFERENCE | {"size": 10**18},
        REFERENCE | {"size": 0},
        "an object's name",
        ["$O.agentflow.M.>"],
    ],
)
async def test_a_reference_that_leads_elsewhere_is_refused(
    client: Client, start_worker: StartWorker, reference: Any
) -> None:
    await start_worker({"told": told})
    await store(client, "hostile", TaskBody(kind="told"), payload=reference)
    record = await ended(client, "hostile")
    assert record.reason == "bad_field"


@pytest.mark.parametrize("nuid", ["*", ">", "a.b", "", "x" * 65, "a b"])
async def test_an_object_that_leads_elsewhere_is_not_followed(
    client: Client, start_worker: StartWorker, nuid: str
) -> None:
    data = msgspec.json.encode({"prompt": "of another"})
    reference = payloads.refer(data)
    name = payloads.object_name("hostile", reference)
    info = payloads.ObjectInfo(name, "agentflow", nuid, len(data), 1, "")
    await Payloads(client.js).put("other", data)
    await client.js.store(payloads.info_subject(name), msgspec.json.encode(info))
    await start_worker({"told": told})
    await store(client, "hostile", TaskBody(kind="told", payload=reference))
    record = await ended(client, "hostile")
    assert record.reason == "payload_lost"


async def test_another_tasks_payload_is_not_to_be_had(
    client: Client, start_worker: StartWorker
) -> None:
    data = msgspec.json.encode({"prompt": "of another"})
    await Payloads(client.js).put("victim", data)
    await start_worker({"told": told})
    await store(client, "thief", TaskBody(kind="told", payload=payloads.refer(data)))
    assert (await ended(client, "thief")).reason == "payload_lost"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"prompt": "a", "kind": "shell"}', "unknown field `kind`"),
        (b"[" * 100_000, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b'{"params": {"x": 1}}', "both the message and its payload give params.x"),
        (b'{"prompt": "b"}', "both the message and its payload give prompt"),
    ],
)
async def test_a_payload_that_is_none_fails_the_task(
    client: Client, start_worker: StartWorker, data: bytes, said: str
) -> None:
    await Payloads(client.js).put("odd", data)
    await start_worker({"told": told})
    body = TaskBody(kind="told", prompt="a", params={"x": 2}, payload=payloads.refer(data))
    await store(client, "odd", body)
    record = await ended(client, "odd")
    assert record.state == "failed"
    assert said in record.error.message


async def test_a_failed_one_is_retried_with_its_payload(
    client: Client, start_worker: StartWorker
) -> None:
    seen: list[int] = []

    async def second_time(run: Run) -> Outcome:
        seen.append(len(run.task.prompt or ""))
        if len(seen) == 1:
            raise InvalidTask("not yet")
        return Outcome(text="done")

    await start_worker({"later": second_time})
    task = await client.submit(LONG, kind="later")
    assert (await ended(client, task.id)).state == "failed"
    again = await client.retry(task.id)
    assert (await again.result()).text == "done"
    corrected = msgspec.json.encode({"kind": "later", "prompt": LONG + "!"})
    seen.clear()
    other = await client.submit(LONG, kind="later")
    assert (await ended(client, other.id)).state == "failed"
    assert (await (await client.retry(other.id, corrected)).result()).text == "done"
    assert seen == [len(LONG), len(LONG) + 1]


async def test_large_tasks_wait_for_room_and_short_ones_do_not(
    client: Client, start_worker: StartWorker
) -> None:
    now, most, go = 0, 0, asyncio.Event()

    async def held(run: Run) -> Outcome:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await go.wait()
        now -= 1
        return Outcome(text="done")

    worker = await start_worker({"held": held, "told": told}, slots=8)
    worker._shared.large._free = len(LONG.encode()) * 2 + 1000
    large = [await client.submit(LONG, kind="held") for _ in range(5)]
    short = await client.submit("short", kind="told")
    assert (await short.result()).value == [5, None, None, {}]
    go.set()
    for task in large:
        assert (await task.result()).text == "done"
    assert most == 2


async def test_a_full_bucket_is_waited_for(client: Client, start_worker: StartWorker) -> None:
    config = (await client.js.stream_info(subjects.OBJECTS))["config"]
    await client.js.api(f"STREAM.UPDATE.{subjects.OBJECTS}", config | {"max_msgs": 3})
    with pytest.raises(StreamFull):
        await client.submit_body(TaskBody(kind="told", prompt=LONG), wait_full=False)
    waiting = asyncio.create_task(client.submit(LONG, kind="told"))
    await client.js.api(f"STREAM.UPDATE.{subjects.OBJECTS}", config)
    await start_worker({"told": told})
    async with asyncio.timeout(20):
        assert (await (await waiting).result()).value[0] == len(LONG)


async def test_what_it_was_told_can_be_read(client: Client) -> None:
    task = await client.submit(LONG, kind="told", params={"model": "m", "x": 1})
    message = f"{task.message_sequence}-"
    nanoseconds = stored_ns((await page(client.connection, subjects.TASKS, 1)).messages[0])
    body = await client.prompt(task.id, message=f"{message}{nanoseconds}")
    assert body is not None
    assert (body.prompt, body.params, body.payload) == (LONG, {"model": "m", "x": 1}, None)


async def test_verify_finds_a_payload_that_is_gone(client: Client) -> None:
    task = await client.submit(LONG, kind="told")
    parked = await client.submit(LONG, kind="told")
    assert (await verify(client.js)).kept
    name = next(name for name in await objects(client) if ".M." in name)
    await client.js.purge(subjects.OBJECTS, name)
    report = await verify(client.js)
    assert [finding.kind for finding in report.findings] == [Kind.NO_PAYLOAD]
    assert report.ids in ([task.id], [parked.id])


# Removing what is done with.


@pytest.fixture
async def master(nats_server: NatsServer, client: Client) -> AsyncIterator[Master]:
    async with masters.a_master(nats_server.url) as found:
        await masters.ready(found)
        yield found


async def test_a_payload_goes_with_its_task(
    client: Client, start_worker: StartWorker, master: Master
) -> None:
    waits = await client.submit(LONG, kind="told", queue="unserved")
    ends = await client.submit(LONG + "x", kind="told")
    assert await master.payloads.round() == 0
    await start_worker({"told": told})
    await ends.result()
    assert await master.payloads.round() == 1
    left = await objects(client)
    assert sorted(left.values()) == [1, 9]
    await waits.cancel()
    assert await master.payloads.round() == 1
    assert await objects(client) == {}


async def test_that_of_a_failed_task_stays_as_long_as_its_dead_letter(
    client: Client, start_worker: StartWorker, master: Master
) -> None:
    async def refuses(run: Run) -> Outcome:
        raise InvalidTask("never")

    await start_worker({"refuses": refuses})
    task = await client.submit(LONG, kind="refuses")
    assert (await ended(client, task.id)).state == "failed"
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while await client.js.last(subjects.DEAD, subjects.dead("*", task.id)) is None:
            await asyncio.sleep(0.02)
    master.payloads._retention = 0.0
    assert await master.payloads.round() == 0
    await client.js.purge(subjects.DEAD, subjects.dead("*", task.id))
    master.payloads._retention = 3600.0
    assert await master.payloads.round() == 0  # a retry may be on its way
    master.payloads._retention = 0.0
    assert await master.payloads.round() == 1
    assert await objects(client) == {}


async def test_what_was_never_submitted_or_never_finished_goes_in_the_end(
    client: Client, master: Master
) -> None:
    await Payloads(client.js).put("orphan", b"x" * 10)
    await client.js.store("$O.agentflow.C.unfinished", b"y")
    await client.js.store("$O.agentflow.M.bm90LW91cnM=", b"{}")  # somebody's own object
    assert await master.payloads.round() == 0
    master.payloads._retention = 0.0
    assert await master.payloads.round() == 1
    master.payloads._upload_within = 0.0
    assert await master.payloads.round() == 1
    assert await objects(client) == {"$O.agentflow.M.bm90LW91cnM=": 1}


async def test_a_payload_that_is_stored_again_meanwhile_stays(
    client: Client, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_of = Payloads(client.js)
    await store_of.put("again", b"x" * 10)
    reference = payloads.refer(b"x" * 10)
    purge = JetStream.purge

    async def late(self: JetStream, *args: Any, **named: Any) -> int:
        assert await store_of.renew("again", reference)
        return await purge(self, *args, **named)

    monkeypatch.setattr(JetStream, "purge", late)
    master.payloads._retention = 0.0
    await master.payloads.round()
    assert await store_of.get("again", reference) == b"x" * 10


@pytest.mark.tools("nats")
async def test_other_clients_read_and_write_the_same_objects(
    client: Client, start_worker: StartWorker, nats_server: NatsServer, tmp_path: Path
) -> None:
    await start_worker({"told": told})
    data = msgspec.json.encode({"prompt": "from the command line", "params": {"x": "y" * 600_000}})
    (tmp_path / "payload.json").write_bytes(data)
    reference = payloads.refer(data)
    name = payloads.object_name("by-hand", reference)
    nats = [str(tools.nats_cli()), "-s", nats_server.url, "object"]
    put = [*nats, "put", "agentflow", str(tmp_path / "payload.json"), "--name", name, "--force"]
    await run_program(*put)
    await store(client, "by-hand", TaskBody(kind="told", payload=reference))
    assert (await ended(client, "by-hand")).value[0] == len("from the command line")
    ours = await client.submit(LONG, kind="told", queue="unserved")
    stored = await client.js.get(subjects.TASKS, ours.message_sequence)
    assert stored is not None
    meant = msgspec.json.decode(stored.data, type=TaskBody).payload
    assert meant is not None
    target = tmp_path / "read.json"
    name = payloads.object_name(ours.id, meant)
    await run_program(*nats, "get", "agentflow", name, "--output", str(target), "--force")
    assert payloads.is_of(target.read_bytes(), meant)


async def run_program(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
