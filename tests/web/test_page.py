"""The web page in a real Chromium: views, acts, text as it comes, reconnecting, hostile text."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest

from agentflow.client import Client
from agentflow.handlers.contract import AttemptFailed, Outcome, Run
from agentflow.protocol.record import Failure
from agentflow.rules.retry import Signal
from agentflow.worker.worker import Worker
from tests.gateway.conftest import Serve, a_worker
from tests.support.handlers import Gate
from tests.support.nats_server import NatsServer
from tests.support.parts import Part, Parts
from tests.web.conftest import Browser

pytestmark = [pytest.mark.web, pytest.mark.tools("chromium")]

HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\u202egnirts\u202c '


async def broken(run: Run) -> Outcome:
    raise AttemptFailed(
        Failure(type="bad", message="it is too long"),
        Signal(status=400, type="invalid_request_error"),
    )


async def test_every_view_is_drawn_and_links_lead_there_and_back(
    serve: Serve, stack: Worker, client: Client, nats_server: NatsServer, browser: Browser
) -> None:
    served, gate = await serve(), Gate()
    browser.base = served.url
    async with a_worker(nats_server, {"hold": gate, "broken": broken}, queues=["held"]):
        await (await client.submit("a question", id="w-done", kind="echo")).result(20)
        failed = await client.submit("x", id="w-failed", kind="broken", queue="held")
        await failed.result(20, raise_on_failure=False)
        await client.submit("held", id="w-held", kind="hold", queue="held")
        await asyncio.wait_for(gate.started.wait(), 20)
        views = {
            "": "w-held",
            "tasks": "w-done",
            "tasks?q=queue:held+kind:broken": "w-failed",
            "tasks?by=queue": "default",
            "tasks/w-done": "a question",
            "tasks/w-failed": "it is too long",
            "tasks/none-such": "no task is known",
            "jobs": "no jobs",
            "workers": "busy",
            f"workers/{stack.actor.name}": "Its tasks",
            "queues": "held",
            "queues/default": "w-done",
            "limits": "no budgets",
            "costs": "The dearest tasks",
            "dead": "it is too long",
            "dead?by=one": "w-failed",
            "events": "w-done",
            "submit": "The same from a shell",
            "nowhere": "There is nothing here",
        }
        browser.expected = re.compile("404")  # of the task that is none
        for address, seen in views.items():
            await browser.open(address)
            await browser.sees(seen)
        page = browser.page
        await browser.open("tasks?q=state:failed")
        await browser.click("w-failed", "link")
        assert page.url.endswith("/tasks/w-failed")
        await page.go_back()
        await browser.sees("1 task")
        assert await page.locator("input.query").input_value() == "state:failed"
        await page.set_viewport_size({"width": 390, "height": 800})
        for address in ("", "tasks", "tasks/w-done", "queues", "submit"):
            await browser.open(address)
            await browser.sees("task" if address != "queues" else "default", "body")
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390, f"{address} is wider than a phone"
        gate.opened.set()


async def test_acts_show_their_command_and_leave_a_receipt(
    serve: Serve, stack: Worker, client: Client, nats_server: NatsServer, browser: Browser
) -> None:
    served, gate = await serve(), Gate()
    browser.base = served.url
    receipts = ".receipts"
    async with a_worker(nats_server, {"hold": gate, "broken": broken}, queues=["held"]) as second:
        for n in (1, 2):
            failed = await client.submit("x", id=f"a-failed-{n}", kind="broken", queue="held")
            await failed.result(20, raise_on_failure=False)
        await client.submit("x", id="a-held", kind="hold", queue="held")
        await asyncio.wait_for(gate.started.wait(), 20)

        await browser.open("queues/default")
        await browser.click("Pause")
        await browser.confirms("Pause", "agentflow pause default")
        await browser.sees("paused after", receipts)
        await browser.click("Resume")
        await browser.confirms("Resume", "agentflow resume default")
        await browser.sees("resumed after", receipts)

        await browser.open("tasks?q=state:running")
        await browser.page.get_by_role("checkbox", name="Mark a-held").check()
        await browser.click("Cancel")
        await browser.confirms("Cancel", "agentflow cancel a-held")
        await browser.sees("cancelled after", receipts)

        await browser.open("tasks/a-failed-1")
        await browser.click("Retry ...")
        await browser.confirms("Retry", "agentflow retry a-failed-1")
        await browser.sees("started again after", receipts)
        await browser.open("dead")
        await browser.click("bad: it is too long", "link")
        await browser.click("Drop all ...")
        await browser.sees("it cannot be undone", "dialog")
        await browser.click("Drop", within="dialog")
        await browser.sees("dropped after", receipts)

        await browser.open(f"workers/{second.actor.name}")
        await browser.click("Drain")
        await browser.confirms("Drain", f"agentflow drain {second.actor.name}")
        await browser.sees("draining after", receipts)

        await browser.open("limits")
        await browser.page.get_by_label("Scope").fill("team=docs")
        await browser.page.get_by_label("US dollars").fill("5")
        await browser.click("Set ...")
        await browser.confirms("Set", "agentflow budget set team=docs 5")
        await browser.sees("team=docs may cost $5", receipts)
        await browser.sees("team=docs", ".grid")

        await browser.open("submit")
        await browser.page.get_by_label("Prompt").fill("Say it's good")
        await browser.page.get_by_label("Kind").fill("echo")
        await browser.page.get_by_label("Max tokens").fill("many")
        await browser.sees("a whole number")
        await browser.page.get_by_label("Max tokens").fill("")
        await browser.sees("agentflow submit --kind echo")
        await browser.click("Submit")
        await browser.sees("Say it's good", "pre.text:not(.streaming)")


async def test_text_is_seen_as_it_comes_and_then_as_it_was_stored(
    serve: Serve, stack: Worker, client: Client, nats_server: NatsServer, browser: Browser
) -> None:
    go = [asyncio.Event(), asyncio.Event()]

    async def writes(run: Run) -> Outcome:
        run.emit("the first words, ")
        await go[0].wait()
        run.emit("the second ones")
        await go[1].wait()
        return Outcome(text="all of it", content=[{"type": "tool_use", "name": "look", "input": 7}])

    served = await serve()
    browser.base = served.url
    async with a_worker(nats_server, {"writes": writes}, queues=["held"]):
        await client.submit("x", id="s-1", kind="writes", queue="held")
        await browser.open("tasks/s-1")
        await browser.sees("the first words,", "pre.streaming")
        go[0].set()
        await browser.sees("the first words, the second ones", "pre.streaming")
        go[1].set()
        await browser.sees("all of it", "pre.text")
        await browser.sees("tool use")
        await browser.sees("succeeded", "dl.facts")


async def test_a_filter_is_completed_and_judged_and_ten_thousand_rows_are_scrolled(
    serve: Serve, client: Client, browser: Browser
) -> None:
    served = await serve()
    browser.base = served.url
    batch = [f"r-{n:05}" for n in range(10_000)]
    for at in range(0, len(batch), 500):
        await asyncio.gather(*(client.submit("x", id=id, queue="q") for id in batch[at : at + 500]))
    page = browser.page
    await browser.open("tasks?sort=id")
    await browser.sees("10,000 tasks")
    grid = page.locator(".grid.scrolls")
    for share in (0.5, 1.0, 0.3):
        row = int(share * 9_999)
        await grid.evaluate(
            "(grid, share) => { grid.scrollTop = share * grid.scrollHeight }", share
        )
        await browser.sees(f"r-{row:05}")
    assert await page.locator(".grid tbody tr").count() < 80, "what is not seen has no elements"
    query = page.locator("input.query")
    await query.fill("sta")
    await page.get_by_role("option", name="state:").click()
    await page.get_by_role("option", name="state:failed").click()
    await page.wait_for_url(re.compile("q=state:failed"))
    await browser.sees("no task fits")
    await query.fill("stat:x")
    await browser.sees("there is no field stat")
    await query.fill("r-00042")
    await browser.sees("1 task")


async def test_a_lost_gateway_is_seen_and_the_page_heals(
    client: Client,
    nats_server: NatsServer,
    parts: Parts,
    free_port: Callable[[], int],
    browser: Browser,
) -> None:
    port = free_port()
    browser.base = f"http://127.0.0.1:{port}"
    browser.expected = re.compile(
        "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE|ERR_EMPTY|ERR_CONNECTION|503"
    )
    standing = browser.page.locator(".standing")

    async def a_gateway() -> Part:
        part = parts.start("gateway", "--nats", nats_server.url, "--port", str(port))
        await part.says("gateway at")
        return part

    await client.submit("x", id="k-1")
    first = await a_gateway()
    await browser.open("tasks")
    await browser.sees("k-1")
    first.kill()
    await browser.sees("reconnecting", ".top")
    await browser.sees("No connection to the gateway", "body")
    assert await browser.page.get_by_text("k-1").count(), "what was known stays"
    await client.submit("x", id="k-2")
    await a_gateway()
    await browser.sees("k-2")
    assert await standing.inner_text() == "live"
    assert await browser.page.locator(".banner").is_hidden()
    nats_server.kill()
    await browser.sees("no NATS", ".top")
    nats_server.start()
    await browser.sees("live", ".top")


async def test_hostile_text_is_text(
    serve: Serve, stack: Worker, client: Client, nats_server: NatsServer, browser: Browser
) -> None:
    served, gate = await serve(), Gate()
    browser.base = served.url
    long, huge = HOSTILE + "y" * 400_000, HOSTILE + "z" * 4_000_000

    async def writes(run: Run) -> Outcome:
        await run.progress(0.5, HOSTILE)
        run.emit(HOSTILE)
        await gate(run)
        block = {"type": HOSTILE, "name": HOSTILE, "input": HOSTILE}
        return Outcome(text=long, value={HOSTILE: HOSTILE}, content=[block])

    async def breaks(run: Run) -> Outcome:
        raise AttemptFailed(
            Failure(type=HOSTILE, message=HOSTILE), Signal(status=400, type="invalid_request_error")
        )

    handlers = {"writes": writes, "breaks": breaks}
    async with a_worker(nats_server, handlers, queues=["held"]):
        labels = {"team": HOSTILE[:60]}
        await client.submit(
            huge, id="h-1", kind="writes", queue="held", system=HOSTILE, labels=labels
        )
        failed = await client.submit(HOSTILE, id="h-2", kind="breaks", queue="held")
        await failed.result(20, raise_on_failure=False)
        for address in ("tasks/h-1", "", "tasks", "dead", "dead?by=one", "tasks/h-2", "events"):
            await browser.open(address)
            await browser.sees("<img src=x" if address != "events" else "h-2")
        await browser.open("tasks/h-1")
        await browser.sees(f"Show all {len(huge):,} characters")
        gate.opened.set()
        await browser.sees("Value")
        for text in (long, huge):
            await browser.click(f"Show all {len(text):,} characters")
        shown = await browser.page.locator("pre.text").evaluate_all(
            "(all) => all.map((each) => each.textContent.length)"
        )
        assert {len(long), len(huge)} <= set(shown)
        assert await browser.page.evaluate("window.pwned") is None
        assert await browser.page.locator("main img, main script, main iframe").count() == 0
        assert await browser.page.evaluate("document.documentElement.scrollWidth") <= 1280


async def test_who_needs_a_token_logs_in_and_sees_the_acts_of_its_role(
    serve: Serve, stack: Worker, client: Client, browser: Browser
) -> None:
    served = await serve(secured=True)
    browser.base = served.url
    browser.expected = re.compile("401")
    text, _ = await client.operate.tokens.create("viewer")
    await client.submit("x", id="t-1", kind="echo")
    await browser.open("tasks")
    await browser.page.wait_for_url(re.compile("/login$"))
    await browser.page.get_by_label("Token").fill("af_wrong")
    await browser.click("Log in")
    await browser.sees("does not hold")
    await browser.page.get_by_label("Token").fill(text)
    await browser.click("Log in")
    await browser.sees("live", ".top")
    await browser.open("tasks/t-1")
    await browser.sees("succeeded")
    for act in ("New task", "Retry ...", "Cancel ..."):
        assert await browser.page.get_by_text(act, exact=True).is_hidden(), act
