"""Who may do what on the server as it is deployed: tried, and compared with docs/deploy.md.

AGENTFLOW_GOLDEN=write writes the table of the page anew.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator

import pytest

from agentflow.bus.streams import provision
from agentflow.bus.streams.cache import Cache
from agentflow.bus.wire.connection import Connection
from agentflow.client import Client
from agentflow.errors import TaskFailed
from agentflow.protocol import headers, subjects
from agentflow.protocol.record import State
from tests.support import powers
from tests.support.deployment import Deployment, Process, whole

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The whole server, a master and a worker."""
    folder = tmp_path_factory.mktemp("powers")
    server = Deployment(folder / "nats", config=whole(folder / "config")).start()
    master = Process(folder / "master.log", server.environment("master"), ["master"])
    master.until("is ready")
    options = ["worker", "--kinds", "echo,sleep", "--queues", "default,other"]
    worker = Process(folder / "worker.log", server.environment("worker"), options)
    worker.until("slots on")
    yield server
    for part in (worker, master):
        part.stop()
    server.stop()


async def test_the_page_says_who_may_what(deployed: Deployment) -> None:
    found: dict[str, dict[str, bool]] = {power: {} for power in powers.POWERS}
    async with Client(deployed.options("admin")) as admin:
        assert not await provision.ensure_streams(admin.js)
        await Cache(admin.js).ensure()
        for role in powers.ROLES:
            # What it is tried on.
            await admin.submit("x", kind="echo", queue="nobody", id=f"waits-{role}")
            failing = await admin.submit(kind="sleep", params={"seconds": "x"}, id=f"failed-{role}")
            with pytest.raises(TaskFailed):
                await failing.result(timeout=20)
            async with Client(deployed.options(role)) as client:
                for power, attempt in powers.POWERS.items():
                    found[power][role] = await powers.may(client, attempt)
    made = powers.table(found)
    if os.environ.get("AGENTFLOW_GOLDEN") == "write":
        powers.write(made)
    assert powers.documented() == made


STREAM = {"name": "EVIL", "subjects": ["evil.>"], "storage": "memory", "num_replicas": 1}
FORGED = {"id": "victim", "state": "succeeded", "text": "FORGED"}


@pytest.mark.parametrize("role", ["viewer", "submitter", "operator", "gateway"])
async def test_no_answer_is_sent_where_its_role_may_not_write(
    deployed: Deployment, role: str
) -> None:
    """The server writes answers with its own rights, and looks at no permission for them."""
    async with Client(deployed.options("admin")) as admin:
        await provision.ensure_streams(admin.js)
        stored = []
        for each in (b"", json.dumps(STREAM).encode(), json.dumps(FORGED).encode()):
            ack = await admin.js.store(subjects.task("nobody"), each)
            stored.append(json.dumps({"seq": ack.seq}).encode())
        # Its own submissions would be answered on subjects that it may write itself.
        targets = [
            "$JS.API.STREAM.CREATE.EVIL", "$JS.API.STREAM.DELETE.AGENTFLOW_DEAD",
            "$JS.API.STREAM.PURGE.AGENTFLOW_RECORDS", "$KV.agentflow.lease.master",
            "$JS.API.CONSUMER.DELETE.AGENTFLOW_TASKS.default-high", "agentflow.progress.victim",
            "agentflow.schedule.victim.1", "agentflow.due.default.normal",
            "agentflow.presence.worker.x", "agentflow.live.results.victim",
        ]  # fmt: skip
        if role == "viewer":
            targets += [
                "agentflow.results.victim", "agentflow.tasks.default", "$KV.agentflow.pause.x",
                "agentflow.control.master", "agentflow.control.worker",
                "agentflow.dead.default.x",
            ]  # fmt: skip
        before = await state(admin)
        async with await Connection.open(deployed.options(role)) as connection:
            for target in targets:
                for ask in (*stored, b'{"seq":999999}'):
                    connection.publish("$JS.API.DIRECT.GET.AGENTFLOW_TASKS", ask, reply=target)
                connection.publish("$JS.API.INFO", b"", reply=target)
            # As a trace of a message, which the server sends too.
            for target in targets:
                block = headers.encode({"Nats-Trace-Dest": target})
                connection.publish("$JS.API.INFO", b"", block=block)
            await connection.request("$JS.API.INFO")
        assert await state(admin) == before


async def state(admin: Client) -> dict[str, object]:
    """What all streams hold but the lease, which its master renews; and their consumers."""
    listed = await admin.js.api("STREAM.NAMES", {})
    found: dict[str, object] = {"names": sorted(listed["streams"])}
    for name in found["names"] if isinstance(found["names"], list) else []:
        info = await admin.js.stream_info(name, subjects_filter=">")
        held = dict(info["state"].get("subjects") or {})
        if name == subjects.KV_STREAM:
            lease = await admin.js.last(name, "$KV.agentflow.lease.master")
            held["lease"] = json.loads(lease.data).keys() if lease is not None else None
            held = {key: str(each) for key, each in held.items() if ".slots." not in key}
        found[name] = held
    found["consumers"] = sorted(each["name"] for each in await admin.js.consumers(subjects.TASKS))
    return found


async def test_answers_are_sent_to_who_submits_from_an_account_of_his_own(
    deployed: Deployment,
) -> None:
    arrived: asyncio.Queue[str] = asyncio.Queue()
    async with Client(deployed.options("submitter")) as client:
        reply = "_INBOX.submitter.mine"
        await client.connection.subscribe(reply, lambda m: arrived.put_nowait(m.data.decode()))
        await client.connection.flush()
        block = headers.encode({subjects.REPLY: reply, subjects.KIND: "echo"})
        await client.js.store(subjects.task("default"), b"hello", block)
        record = json.loads(await asyncio.wait_for(arrived.get(), 20))
        assert (record["state"], record["text"]) == (State.SUCCEEDED, "hello")
