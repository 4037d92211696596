"""What of the web page needs no browser: sources, streams, the form, its pure modules."""

from __future__ import annotations

import json
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agentflow.client import Client
from agentflow.dashboard.reader.column import Column, fit
from agentflow.dashboard.render import amounts
from agentflow.gateway.routes.watching import Gathered, Part
from agentflow.gateway.views import BEHIND
from agentflow.worker.worker import Worker
from tests.gateway.conftest import Serve

PAGE = Path(__file__).resolve().parents[2] / "agentflow" / "gateway" / "page"
SCRIPTS = sorted(PAGE.rglob("*.js"))
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|DOMParser|\beval\(|new Function"
    r"|setAttribute\(\s*[\"'](?:on|style)|createContextualFragment|https?://(?!www\.w3\.org)"
)


def run(script: str) -> Any:
    """What a module of node prints as JSON."""
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script],
        capture_output=True,
        text=True,
        cwd=PAGE,
        check=True,
    )
    return json.loads(done.stdout)


def test_text_can_only_become_text_and_nothing_comes_from_elsewhere() -> None:
    assert len(SCRIPTS) > 15
    for script in SCRIPTS:
        assert MARKUP.findall(script.read_text()) == [], script.name
    for markup in PAGE.rglob("*.html"):
        text = markup.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", text), markup.name
        assert not re.search(r"https?://", text), markup.name
    for style in PAGE.rglob("*.css"):
        assert not re.search(r"@import|url\(", style.read_text()), style.name


async def test_every_part_that_is_named_is_given(serve: Serve) -> None:
    served = await serve()
    named = {"page/main.js"} | {f"page/{path.relative_to(PAGE)}" for path in SCRIPTS}
    index = (PAGE / "index.html").read_text()
    named |= set(re.findall(r'(?:href|src)="(page/[^"]+)"', index))
    for script in SCRIPTS:
        for target in re.findall(r'from "(\.[^"]+)"', script.read_text()):
            assert (script.parent / target).resolve().is_file(), f"{script.name}: {target}"
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    for path in named:
        answer = await served.get(f"/{path}")
        assert answer.status == 200, path
        assert answer.headers["Content-Type"].startswith(kinds[Path(path).suffix]), path


async def test_several_views_come_in_one_stream(
    serve: Serve, stack: Worker, client: Client
) -> None:
    served = await serve()
    path = "/v1/watch?on=overview%3Ffields%3Dflow&on=tasks%3Fq%3Did:p-&on=budgets"
    async with served.events(path) as events:
        first = [await events.next() for _ in range(3)]
        assert [(told.event, told.id, told.data["view"]) for told in first if told] == [
            ("snapshot", "0", "overview"),
            ("snapshot", "1", "tasks"),
            ("snapshot", "2", "budgets"),
        ]
        assert first[0] is not None
        assert list(first[0].data["document"]) == ["flow"]
        await client.submit("x", id="p-1", kind="echo")
        await served.ask("PUT", "/v1/budgets/team=docs", {"limit_usd": 2.0})
        seen: set[str] = set()
        while seen < {"p-1", "team=docs"}:
            told = await events.next()
            assert told is not None
            seen |= {row["key"] for row in told.data.get("grid", {}).get("rows", [])}
    for wrong in ("", "?on=nothing", "?on=tasks%3Fq%3Dno:x", "?on=tasks%3Ffrist%3D1", "?on=x" * 9):
        assert (await served.get(f"/v1/watch{wrong}")).status == 400, wrong
    assert not len(served.gateway.pictures)


async def test_who_scrolls_has_the_order_made_once(serve: Serve, client: Client) -> None:
    served = await serve()
    for n in range(5):
        await client.submit("x", id=f"o-{n}")
    seen = []
    for first in range(5):
        path = f"/v1/views/tasks?sort=id&first={first}&number=1"
        while not (rows := (await served.get(path)).json["grid"]["rows"]):
            pass
        seen.append(rows[0]["key"])
    assert seen == [f"o-{n}" for n in range(5)]
    assert len(served.gateway.pictures._boards) == 1


def test_a_viewer_of_several_pictures_that_is_far_behind_gets_all_of_them() -> None:
    gathered = Gathered()
    parts = [Part(gathered, place) for place in range(2)]
    gathered.wholes = [lambda part=part: part.marked(b"whole ") for part in parts]  # type: ignore[misc]
    for _ in range(BEHIND + 1):
        parts[1].put(b"patch ", lambda: b"one whole ")
    assert gathered._pieces == [b"id: 0\nwhole id: 1\nwhole "]


async def test_the_form_is_judged_as_the_terminal_judges_it(
    serve: Serve, stack: Worker, client: Client
) -> None:
    served = await serve()
    fields = (await served.get("/v1/submission")).json
    assert [field["name"] for field in fields][:3] == ["prompt", "kind", "queue"]
    values = {"prompt": "it's", "max_tokens": "many", "file": "/etc/passwd"}
    judged = (await served.post("/v1/submission/check", {"values": values})).json
    assert judged["problems"] == {"max_tokens": "a whole number, 1 or more"}
    values = {"prompt": "it's", "kind": "echo", "id": "f-1"}
    judged = (await served.post("/v1/submission/check", {"values": values})).json
    assert judged["command"] == """agentflow submit --id f-1 --kind echo 'it'"'"'s'"""
    assert (await served.post("/v1/tasks", judged["task"])).status == 201
    await (await client.submit("it's", id="f-1", kind="echo")).result(20)
    assert (await served.get("/v1/submission/like/f-1")).json == {"task": None}


@pytest.mark.tools("node")
def test_columns_find_room_by_the_rule_of_the_terminal() -> None:
    dice = random.Random(7)
    cases = []
    for _ in range(300):
        columns = [
            Column(
                key=str(n),
                title="",
                width=dice.randint(1, 30),
                text=lambda item, scene: "",
                drop=dice.randint(0, 4),
                grows=dice.random() < 0.4,
                most=dice.choice((1000, 35)),
            )
            for n in range(dice.randint(1, 9))
        ]
        width = dice.randint(5, 160)
        told = [
            {"width": one.width, "drop": one.drop, "grows": one.grows, "most": one.most}
            for one in columns
        ]
        expected = [{"place": int(one.key), "width": room} for one, room in fit(columns, width)]
        cases.append((told, width, expected))
    given = json.dumps([case[:2] for case in cases])
    found = run(
        'import { fit } from "./core/fit.js";'
        f"console.log(JSON.stringify({given}.map(([headings, width]) => fit(headings, width))))"
    )
    assert found == [case[2] for case in cases]


@pytest.mark.tools("node")
def test_numbers_are_written_as_the_terminal_writes_them() -> None:
    dice = random.Random(3)
    seconds = [0, 0.04, 9.94, 9.96, 59.4, 60, 3599, 86_399, 863_999, 9e6]
    seconds += [10 ** dice.uniform(-2, 7) for _ in range(200)]
    micro = [0, 1, 9_999, 12_345, 10_000_000, 999_994_000, 1_234_567_891]
    micro += [int(10 ** dice.uniform(0, 12)) for _ in range(200)]
    found = run(
        'import { money, short, span } from "./core/amounts.js";'
        f"console.log(JSON.stringify([{seconds}.map(span), {micro}.map((m) => money(m / 1e6)),"
        f"{seconds}.map(short)]))"
    )
    halves = lambda told, expected: sum(a != b for a, b in zip(told, expected, strict=True))  # noqa: E731
    # A half may be rounded either way: no more than a few are.
    assert halves(found[0], [amounts.span(each) for each in seconds]) <= 2
    assert halves(found[1], [amounts.money(each) for each in micro]) <= 2
    assert halves(found[2], [amounts.short(each) for each in seconds]) <= 2


@pytest.mark.tools("node")
def test_a_patch_makes_of_a_picture_the_next_one() -> None:
    picture = {
        "view": "tasks",
        "head": {"time": 1, "connected": True},
        "document": {"a": 1, "b": 2},
        "grid": {"headings": [], "rows": [{"key": "x", "cells": [1]}, {"key": "y", "cells": [2]}],
                 "first": 0, "total": 2, "sort": "id", "reverse": False},
    }  # fmt: skip
    patch = {
        "head": {"time": 2},
        "document": {"b": 3},
        "grid": {"rows": [{"key": "z", "cells": [4]}], "order": ["z", "x"], "total": 9},
    }
    found = run(
        'import { patched } from "./core/patches.js";'
        f"const before = {json.dumps(picture).replace('True', 'true')};"
        f"console.log(JSON.stringify([patched(before, {json.dumps(patch)}), before]))"
    )
    assert found[0]["head"] == {"time": 2, "connected": True}
    assert found[0]["document"] == {"a": 1, "b": 3}
    assert [row["cells"] for row in found[0]["grid"]["rows"]] == [[4], [1]]
    assert found[0]["grid"]["total"] == 9
    assert found[1] == picture, "the old one stays what it is"


@pytest.mark.tools("node")
def test_a_word_is_completed_where_the_cursor_stands() -> None:
    known = {"fields": ["state", "stop", "cost"], "values": {"state": ["failed", "queued"],
             "queue": ["my queue"]}}  # fmt: skip
    words = ["", "st", "x st", "!co", "state:", "state:failed,q", "queue:", "state:failed"]
    found = run(
        'globalThis.document = { baseURI: "http://localhost/" };'
        'const { completions } = await import("./core/complete.js");'
        f"console.log(JSON.stringify({json.dumps(words)}.map("
        f"(word) => completions(word, {json.dumps(known)}))))"
    )
    assert found == [
        [],
        ["state:", "stop:"],
        ["state:", "stop:"],
        ["!cost>"],
        ["state:failed", "state:queued"],
        ["state:failed,queued"],
        ['queue:"my queue"'],
        [],
    ]
