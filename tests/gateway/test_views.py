"""The dashboard's views over HTTP: a snapshot, patches, one making for all who look."""

from __future__ import annotations

import asyncio
from typing import Any

from agentflow.client import Client
from agentflow.gateway.views import BEHIND, VIEWS, Viewer
from agentflow.worker.worker import Worker
from tests.gateway.conftest import Serve


def patched(grid: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """A table as the page brings it up to date."""
    rows = {row["key"]: row for row in [*grid["rows"], *patch.get("rows", [])]}
    order = patch.get("order", [row["key"] for row in grid["rows"]])
    plain = {name: value for name, value in patch.items() if name not in ("rows", "order")}
    return {**grid, **plain, "rows": [rows[key] for key in order]}


async def test_every_view_is_there_as_it_is(serve: Serve, stack: Worker, client: Client) -> None:
    served = await serve()
    await (await client.submit("x", id="v-1", kind="echo")).result(20)
    for view in VIEWS:
        answer = await served.get(f"/v1/views/{view}")
        assert answer.status == 200, answer.json
        assert answer.json["view"] == view
        assert answer.json["head"]["connected"] is True
    assert (await served.get("/v1/views/overview")).json["document"]["charts"]["done"]
    assert (await served.get("/v1/views/nothing")).status == 404
    for query in ("q=nofield:1", "sort=nothing", "frist=1"):
        assert (await served.get(f"/v1/views/tasks?{query}")).status == 400, query
    assert not len(served.gateway.pictures), "what nobody looks at is not made"


async def test_a_snapshot_and_its_patches_are_the_picture(
    serve: Serve, stack: Worker, client: Client
) -> None:
    served = await serve()
    await (await client.submit("x", id="v-1", kind="echo")).result(20)
    path = "/v1/views/tasks?q=label:team=docs&sort=id"
    async with served.events(path) as first, served.events(path) as second:
        assert len(served.gateway.pictures) == 1, "those who see the same share it"
        told = await first.next()
        assert told is not None
        assert told.event == "snapshot"
        grid = told.data["grid"]
        assert grid["rows"] == []
        for n in (2, 1):
            await client.submit("x", id=f"v-{n + 1}", kind="echo", labels={"team": "docs"})
        while [row["key"] for row in grid["rows"]] != ["v-2", "v-3"] or any(
            "succeeded" not in str(row["cells"]) for row in grid["rows"]
        ):
            told = await first.next()
            assert told is not None
            grid = patched(grid, told.data.get("grid", {}))
        assert grid["total"] == 2
        now = (await served.get(path)).json["grid"]
        assert [row["key"] for row in now["rows"]] == ["v-2", "v-3"]
        assert (await second.next()) is not None
    async with asyncio.timeout(20):
        while len(served.gateway.pictures):
            await asyncio.sleep(0.02)


async def test_a_viewer_far_behind_gets_the_whole_instead() -> None:
    viewer = Viewer()
    for n in range(BEHIND + 3):
        viewer.put(b"patch%d " % n, lambda: b"whole ")
    assert await viewer.next(1) == b"whole patch%d patch%d " % (BEHIND + 1, BEHIND + 2)


async def test_an_act_is_previewed_done_and_receipted(serve: Serve, stack: Worker) -> None:
    served = await serve()
    act = {"act": "pause", "targets": ["default"]}
    shown = (await served.post("/v1/acts/preview", act)).json
    assert (shown["command"], shown["possible"]) == ("agentflow pause default", ["default"])
    done = await served.post("/v1/acts", act)
    assert done.lines[-1]["ended"] is True
    assert done.lines[-1]["text"].startswith("paused")
    assert (await served.get("/v1/queues")).json[0]["state"] == "paused"
    assert (await served.post("/v1/queues/default/resume")).json["lifted"][0]["name"] == "default"
    assert (await served.post("/v1/acts", {"act": "explode", "targets": ["x"]})).status == 422
    assert (await served.post("/v1/acts", {"act": "pause", "targets": []})).status == 422


async def test_a_filter_is_judged_as_it_is_typed(serve: Serve, stack: Worker) -> None:
    served = await serve()
    judged = (await served.get("/v1/query?q=stat:x")).json
    assert "there is no field stat" in judged["problem"]
    assert "label" in judged["fields"]
    assert "failed" in judged["values"]["state"]
    assert (await served.get("/v1/query?q=state:failed")).json["problem"] == ""


async def test_the_page_is_given_at_every_view(serve: Serve) -> None:
    served = await serve()
    for path in ("/", "/tasks", "/tasks/some-id", "/queues?q=x"):
        page = await served.get(path)
        assert page.status == 200, path
        assert page.headers["Content-Type"].startswith("text/html")
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    tag = page.headers["ETag"]
    assert (await served.get("/", headers={"If-None-Match": tag})).status == 304
    for path in ("/page/../gateway.py", "/page/%2e%2e/gateway.py", "/page/none.js", "/secret.txt"):
        answer = await served.raw(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        assert answer.startswith(b"HTTP/1.1 404"), path
