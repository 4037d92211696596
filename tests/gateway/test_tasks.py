"""Tasks over HTTP: put in, looked at, waited for, ended, run again."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

from agentflow.client import Client
from agentflow.worker.worker import Worker
from tests.gateway.conftest import Serve, Served
from tests.support.nats_server import NatsServer

ECHO = {"kind": "echo", "prompt": "hello"}


async def test_a_task_goes_in_and_its_result_comes_out(serve: Serve, stack: Worker) -> None:
    served = await serve()
    put = await served.post("/v1/tasks", ECHO | {"labels": {"team": "docs"}})
    assert put.status == 201
    task = put.json
    assert put.headers["Location"] == f"/v1/tasks/{task['id']}"
    assert task["sequence"] == 1
    # It can be looked at at once, though the followed store may not have heard of it.
    assert (await served.get(put.headers["Location"])).json["queue"] == "default"
    result = await served.get(f"/v1/tasks/{task['id']}/result?wait=20")
    assert result.status == 200
    assert (result.json["state"], result.json["text"]) == ("succeeded", "hello")
    fresh = await served.get(f"/v1/tasks/{task['id']}", headers={"Cache-Control": "no-cache"})
    assert fresh.json["state"] == "succeeded"
    history = (await served.get(f"/v1/tasks/{task['id']}/history")).json
    assert [step["record"]["state"] for step in history["records"]] == ["running", "succeeded"]
    assert (await served.get(f"/v1/tasks/{task['id']}/prompt")).status == 410
    why = await served.get(f"/v1/tasks/{task['id']}/why")
    assert why.json["state"] == "succeeded"


async def test_who_prefers_to_wait_gets_the_result(serve: Serve, stack: Worker) -> None:
    served = await serve()
    waited = await served.post("/v1/tasks", ECHO, headers={"Prefer": "respond-async, wait=20"})
    assert (waited.status, waited.json["text"]) == (200, "hello")
    slow = {"kind": "sleep", "prompt": "x", "params": {"seconds": 30}}
    late = await served.post("/v1/tasks?wait=0.2", slow)
    assert (late.status, late.json["kind"]) == (202, "sleep")
    ended = await served.post(f"/v1/tasks/{late.json['id']}/cancel")
    assert (ended.json["state"], ended.json["cancelled"]) == ("cancelled", True)
    again = await served.post(f"/v1/tasks/{late.json['id']}/cancel")
    assert again.json["cancelled"] is False


async def test_a_key_is_one_request(serve: Serve, client: Client) -> None:
    served = await serve()
    key = {"Idempotency-Key": "order-7"}
    first = await served.post("/v1/tasks", ECHO, headers=key)
    assert (first.status, first.json["id"]) == (201, "order-7")
    same = await served.post("/v1/tasks", ECHO, headers=key)
    assert (same.status, same.json["known"]) == (200, True)
    quoted = await served.post("/v1/tasks", ECHO, headers={"Idempotency-Key": '"order-7"'})
    assert (quoted.status, quoted.json["known"]) == (200, True)
    other = await served.post("/v1/tasks", ECHO | {"prompt": "another"}, headers=key)
    assert other.status == 422
    assert other.json["type"] == "urn:agentflow:IdReused"
    assert "another prompt" in other.json["detail"]
    # No worker has seen it, and this gateway knows nothing by heart: its message tells.
    served.gateway.admitted.clear()
    async with asyncio.timeout(20):
        while "order-7" not in served.gateway.store.rows:
            await asyncio.sleep(0.02)
    assert (await served.post("/v1/tasks", ECHO, headers=key)).status == 200
    refused = await served.post("/v1/tasks", ECHO | {"prompt": "another"}, headers=key)
    assert refused.status == 422
    assert (await served.post("/v1/tasks", ECHO, headers={"Idempotency-Key": "a b"})).status == 400


async def test_a_wrong_task_is_refused_in_the_words_of_the_command_line(serve: Serve) -> None:
    served = await serve()
    for body, status, said in [
        ({"promt": "x"}, 422, "did you mean prompt?"),
        ({}, 422, "a task needs a prompt"),
        ({"prompt": "x", "queue": "No Queue"}, 400, "queue 'No Queue' is not allowed"),
        ({"prompt": "x", "priority": "urgent"}, 422, "priority is one of high, normal, low"),
        ({"prompt": "x", "max_tokens": "many"}, 422, "$.max_tokens"),
        ({"payload": {"digest": "sha256:" + "0" * 64, "size": 1}}, 422, "payload is made by"),
    ]:
        answer = await served.post("/v1/tasks", body)
        assert (answer.status, answer.headers["Content-Type"]) == (
            status,
            "application/problem+json",
        ), body
        assert said in answer.json["detail"], answer.json
    bad = await served.ask(
        "POST", "/v1/tasks", data=b"{", headers={"Content-Type": "application/json"}
    )
    assert bad.status == 422
    assert "JSON cannot be read" in bad.json["detail"]
    assert (await served.ask("POST", "/v1/tasks", data=b"hi")).status == 415


async def test_what_no_message_holds_goes_through_the_claim_check(
    serve: Serve, stack: Worker
) -> None:
    served = await serve()
    kind = {"Content-Type": "application/json"}
    long = io.BytesIO(json.dumps(ECHO | {"prompt": "x" * 5_000_000}).encode())
    result = await served.ask("POST", "/v1/tasks?wait=30", data=long, headers=kind)
    assert result.status == 200
    assert result.json["text"].startswith("xxx")
    length = {"Content-Length": "33600000", **kind}
    huge = await served.raw(
        b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in length.items()).encode()
        + b"\r\n{"
    )
    assert huge.startswith(b"HTTP/1.1 413")


async def test_a_full_queue_says_when_to_come_again(
    serve: Serve, client: Client, nats_server: NatsServer
) -> None:
    served = await serve()
    await served.post("/v1/tasks", ECHO)
    config = (await client.js.stream_info("AGENTFLOW_TASKS"))["config"]
    await client.js.api("STREAM.UPDATE.AGENTFLOW_TASKS", config | {"max_msgs": 1})
    full = await served.post("/v1/tasks", ECHO)
    assert full.status == 429
    assert int(full.headers["Retry-After"]) > 0
    assert full.json["type"] == "urn:agentflow:StreamFull"


async def test_a_bulk_has_a_line_of_outcome_for_each(serve: Serve, stack: Worker) -> None:
    served = await serve()
    lines: list[Any] = [ECHO | {"id": f"b-{n}", "queue": "bulk"} for n in range(300)]
    lines[7] = {"promt": "x"}
    data = b"\n".join(json.dumps(line).encode() for line in lines)
    answer = await served.ask(
        "POST", "/v1/tasks/bulk", data=data, headers={"Content-Type": "application/x-ndjson"}
    )
    assert answer.status == 200
    outcomes = answer.lines
    assert [outcome["line"] for outcome in outcomes] == list(range(1, 301))
    assert outcomes[7]["error"]["status"] == 422
    assert outcomes[8]["id"] == "b-8"
    assert sum("id" in outcome for outcome in outcomes) == 299


async def test_a_bulk_is_answered_while_it_comes(serve: Serve, client: Client) -> None:
    served = await serve()
    answered = asyncio.Event()

    async def lines() -> Any:
        for n in range(3):
            answered.clear()
            yield json.dumps(ECHO | {"id": f"s-{n}"}).encode() + b"\n"
            async with asyncio.timeout(20):
                await answered.wait()  # the next line only once this one has its outcome

    async with served.session.post(
        served.url + "/v1/tasks/bulk",
        data=lines(),
        headers={"Content-Type": "application/x-ndjson"},
    ) as response:
        ids = []
        async for line in response.content:
            ids.append(json.loads(line)["id"])
            answered.set()
    assert ids == ["s-0", "s-1", "s-2"]


async def listed(served: Served, query: str) -> list[str]:
    answer = await served.get(f"/v1/tasks?{query}")
    assert answer.status == 200, answer.json
    return [task["id"] for task in answer.json["tasks"]]


async def test_a_list_is_filtered_paged_and_cut(serve: Serve, client: Client) -> None:
    served = await serve()
    for n in range(5):
        labels = {"team": "docs" if n % 2 else "ops", "n": str(n)}
        await client.submit("x", id=f"t-{n}", queue=f"q{n % 2}", kind="echo", labels=labels)
    async with asyncio.timeout(20):
        while len(served.gateway.store.rows) < 5:
            await asyncio.sleep(0.02)
    newest = [f"t-{n}" for n in reversed(range(5))]
    assert await listed(served, "") == newest
    assert await listed(served, "queue=q1") == ["t-3", "t-1"]
    assert await listed(served, "label=team=docs&label=n=3") == ["t-3"]
    assert await listed(served, "q=label:team=ops") == ["t-4", "t-2", "t-0"]
    assert await listed(served, "state=queued&state=running&text=T-2") == ["t-2"]
    assert await listed(served, "since=1h&kind=echo") == newest
    assert await listed(served, "state=failed") == []
    page = (await served.get("/v1/tasks?limit=2&fields=id,queue")).json
    assert page["tasks"] == [{"id": "t-4", "queue": "q0"}, {"id": "t-3", "queue": "q1"}]
    assert await listed(served, f"limit=2&cursor={page['next']}") == ["t-2", "t-1"]
    for query in ("stat=failed", "limit=0", "cursor=nonsense", "fields=nothing", "q=nofield:1"):
        answer = await served.get(f"/v1/tasks?{query}")
        assert answer.status == 400, query
        assert answer.json["detail"]


async def test_an_unknown_task_is_not_found(serve: Serve, stack: Worker) -> None:
    served = await serve()
    for path in ("", "/history", "/result", "/why", "/prompt"):
        answer = await served.get(f"/v1/tasks/never{path}")
        assert (answer.status, answer.json["type"]) == (404, "urn:agentflow:TaskNotFound")
    assert (await served.post("/v1/tasks/never/cancel")).status == 404


async def test_many_are_cancelled_by_what_they_have_in_common(serve: Serve, stack: Worker) -> None:
    served = await serve()
    for n in range(4):
        body = ECHO | {"id": f"w-{n}", "queue": "nobody", "labels": {"run": str(n % 2)}}
        assert (await served.post("/v1/tasks", body)).status == 201
    async with asyncio.timeout(20):
        while (await served.post("/v1/tasks/cancel", {"queue": "nobody", "dry_run": True})).json[
            "matched"
        ] < 4:
            await asyncio.sleep(0.05)
    assert (await served.post("/v1/tasks/cancel", {})).status == 422
    done = await served.post("/v1/tasks/cancel", {"queue": "nobody", "labels": {"run": "1"}})
    assert (done.json["matched"], done.json["done"]) == (2, 2)
    named = await served.post("/v1/tasks/cancel", {"ids": ["w-0", "w-1", "none"]})
    assert named.json["done"] == 1
    assert "had ended" in named.json["failed"]["w-1"]
    assert "no task is known" in named.json["failed"]["none"]


async def test_what_failed_runs_again(serve: Serve, stack: Worker) -> None:
    served = await serve()
    wrong = {"kind": "sleep", "prompt": "x", "params": {"seconds": "long"}, "max_attempts": 1}
    failed = await served.post("/v1/tasks?wait=20", wrong | {"id": "f-1"})
    assert failed.json["state"] == "failed"
    letters = (await served.get("/v1/dead")).json["letters"]
    assert [letter["id"] for letter in letters] == ["f-1"]
    groups = (await served.get("/v1/dead/groups")).json
    assert groups[0]["count"] == 1
    counted = await served.post(
        "/v1/tasks/retry", {"reason": failed.json["reason"], "dry_run": True}
    )
    assert (counted.json["matched"], counted.json["done"]) == (1, 0)
    assert (await served.post("/v1/tasks/retry", {"dry_run": True})).status == 422
    again = await served.post("/v1/tasks/f-1/retry")
    assert again.status == 202
    after = again.json["sequence"]
    result = await served.get(f"/v1/tasks/f-1/result?wait=20&newer_than={after}")
    assert result.json["state"] == "failed"
    assert result.json["sequence"] > after
    async with asyncio.timeout(20):
        while not (await served.get("/v1/dead")).json["letters"]:
            await asyncio.sleep(0.05)
    dropped = await served.post("/v1/dead/drop", {"ids": ["f-1"]})
    assert dropped.json["done"] == 1
