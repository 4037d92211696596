"""What happens, pushed: resumed without loss or doubling, the text so far first."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

from agentflow.client import Client, Event
from agentflow.client.tasks.watching import record_event
from agentflow.gateway.events import hub
from agentflow.handlers.contract import Outcome, Run
from agentflow.protocol import record as records
from agentflow.worker.worker import Worker
from tests.gateway.conftest import Events, Serve, a_worker
from tests.support.nats_server import NatsServer


async def of_task(events: Events, task_id: str) -> list[str]:
    """The names of a task's events up to its end."""
    names = []
    while (told := await events.next()) is not None:
        if told.data.get("taskId") == task_id:
            names.append(told.event)
            if told.event in ("task.succeeded", "task.failed", "task.cancelled"):
                break
    return names


async def test_all_events_are_pushed_and_filtered(
    serve: Serve, stack: Worker, client: Client
) -> None:
    served = await serve()
    async with (
        served.events("/v1/events") as all_,
        served.events("/v1/events?label=team=docs&type=task.succeeded") as docs,
    ):
        await client.submit("x", id="e-1", kind="echo")
        await client.submit("x", id="e-2", kind="echo", labels={"team": "docs"})
        assert await of_task(all_, "e-1") == ["task.queued", "task.started", "task.succeeded"]
        told = await docs.next()
        assert told is not None
        assert (told.event, told.data["taskId"]) == ("task.succeeded", "e-2")
        assert int(told.id) == told.data["sequence"]


async def test_who_comes_again_misses_nothing_and_gets_nothing_twice(
    serve: Serve, stack: Worker, client: Client
) -> None:
    served, other = await serve(), await serve()
    ids = [f"r-{n}" for n in range(40)]
    seen: list[tuple[int, str]] = []
    last = "0"

    async def submit() -> None:
        for task_id in ids:
            await client.submit("x", id=task_id, kind="echo")
            await asyncio.sleep(0.01)

    submitting = asyncio.create_task(submit())
    gateways = [served, other]
    while len({name for _, name in seen}) < len(ids) or not submitting.done():
        # Each time from another gateway, in the middle of what happens.
        gateways.reverse()
        async with gateways[0].events(
            "/v1/events?type=task.succeeded", headers={"Last-Event-ID": last}
        ) as events:
            for _ in range(5):
                if len(seen) == len(ids):
                    break
                told = await events.next()
                assert told is not None
                seen.append((int(told.id), told.data["taskId"]))
                last = told.id
    await submitting
    assert [name for _, name in seen] == [name for _, name in sorted(set(seen))]
    assert sorted(name for _, name in seen) == sorted(ids)


async def test_who_opens_a_running_task_gets_its_text_so_far(
    serve: Serve, client: Client, nats_server: NatsServer
) -> None:
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def writes(run: Run) -> Outcome:
        for word in ("one ", "zwei ", "три "):
            run.emit(word)
            await asyncio.sleep(0.06)
        halfway.set()
        await go_on.wait()
        run.emit("end")
        return Outcome(text="one zwei три end")

    async with a_worker(nats_server, {"writes": writes}):
        served = await serve()
        await client.submit("x", id="w-1", kind="writes")
        async with asyncio.timeout(20):
            await halfway.wait()
        async with served.events("/v1/tasks/w-1/events") as events:
            first = await events.next()
            text = await events.next()
            assert first is not None
            assert text is not None
            assert first.event == "task.started"
            assert (text.event, text.data["text"]) == ("task.tokens", "one zwei три ")
            go_on.set()
            rest = await events.until("end")
        assert [told.event for told in rest] == ["task.tokens", "task.succeeded", "end"]
        assert rest[0].data["text"] == "end"
        async with served.events(
            "/v1/tasks/w-1/events?records=true", headers={"Last-Event-ID": "1"}
        ) as again:
            told = await again.until("end")
        assert [each.event for each in told] == ["task.succeeded", "end"]
        assert told[0].data["record"]["text"] == "one zwei три end"


async def test_a_reader_that_takes_nothing_is_told_and_dropped() -> None:
    reader = hub.Reader(hub.Filter())
    piece = b"x" * (hub.BEHIND // 4)
    for _ in range(6):
        reader.put(piece)
    assert reader.dropped
    assert await reader.next(1) == piece * 4, "what it had by then is whole"
    assert await reader.next(1) == b""


def told(sequence: int) -> Event:
    record = records.decode(b"{}", f"agentflow.progress.h-{sequence}")
    return record_event(f"h-{sequence}", record, sequence)


async def test_the_hub_stands_behind_all_that_came_whoever_listened() -> None:
    ours = hub.Hub()
    early = hub.Reader(hub.Filter())
    ours.join(early)
    ours._take(told(1))
    ours.leave(early)  # with what had gathered
    ours._take(told(2))
    late = hub.Reader(hub.Filter())
    assert ours.join(late) == 2
    ours._take(told(3))
    piece = await late.next(1)
    assert piece is not None
    assert piece.count(b"id: ") == 1
    assert b"id: 3" in piece
    waiting = asyncio.create_task(ours.reaches(4))
    await asyncio.sleep(0)
    assert not waiting.done()
    ours._take(told(4))
    await waiting


async def test_a_socket_subscribes_and_resumes(serve: Serve, stack: Worker, client: Client) -> None:
    served = await serve()
    async with served.session.ws_connect(served.url + "/ws") as socket:
        await socket.send_json({"type": "ping", "id": "p"})
        assert (await socket.receive_json())["type"] == "pong"
        await socket.send_str("nonsense")
        assert (await socket.receive_json())["type"] == "error"
        await socket.send_json({"type": "subscribe", "id": "a", "types": ["task.succeeded"]})
        assert (await socket.receive_json())["type"] == "subscribed"
        await client.submit("x", id="s-1", kind="echo")
        frame = await next_frame(socket)
        assert frame["type"] == "task.succeeded"
        assert frame["data"]["taskId"] == "s-1"
        await socket.send_json({"type": "unsubscribe", "id": "a"})
        assert (await socket.receive_json())["type"] == "unsubscribed"
        await (await client.submit("x", id="s-2", kind="echo")).result(20)
        after = frame["data"]["sequence"]
        again = {"type": "subscribe", "id": "b", "types": ["task.succeeded"], "after": after}
        await socket.send_json(again)
        assert (await socket.receive_json())["type"] == "subscribed"
        assert (await next_frame(socket))["data"]["taskId"] == "s-2"
        await socket.send_json({"type": "subscribe", "id": "c", "task": "s-2"})
        assert (await socket.receive_json())["type"] == "subscribed"
        assert (await next_frame(socket))["data"]["state"] == "succeeded"
        assert (await next_frame(socket))["type"] == "end"


async def next_frame(socket: aiohttp.ClientWebSocketResponse) -> Any:
    async with asyncio.timeout(20):
        return json.loads((await socket.receive()).data)


async def test_progress_is_pushed_as_the_frame_that_pages_know(
    serve: Serve, client: Client, nats_server: NatsServer
) -> None:
    async def steps(run: Run) -> Outcome:
        await run.progress(0.5, "halfway")
        return Outcome(text="done")

    async with a_worker(nats_server, {"steps": steps}):
        served = await serve()
        async with served.session.ws_connect(served.url + "/ws") as socket:
            await socket.send_json({"type": "subscribe", "types": ["task.progress"]})
            await socket.receive_json()
            await client.submit("x", id="p-1", kind="steps")
            frame = await next_frame(socket)
            assert frame["type"] == "task.progress"
            assert frame["data"]["taskId"] == "p-1"
            assert frame["data"]["progress"] == 0.5
