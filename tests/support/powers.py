"""What there is to do on a deployed server, each as an attempt; docs/deploy.md has who may.

An attempt that the server refuses raises PermissionDenied. Whatever else comes of it (nothing is
there, a fence holds) it was permitted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import nats.errors

from agentflow.client import Client
from agentflow.client.operate import budgets
from agentflow.errors import BusError, NotFound, PermissionDenied
from agentflow.protocol import headers, streams, subjects
from agentflow.protocol.subjects import Priority

Attempt = Callable[[Client], Awaitable[object]]
WITHIN: Final = 5.0
NEVER: Final = headers.fence("powers", 999_999_999)
"""A fence that no log meets: what is written here is refused for that, where it is permitted."""


def sends(*subjects: str, block: bytes = b"") -> Attempt:
    async def attempt(client: Client) -> None:
        for subject in subjects:
            await client.connection.request(subject, b"{}", block=block, timeout=WITHIN)

    return attempt


def hears(*wanted: str) -> Attempt:
    """Subscribe; the server refuses in its own time, before it answers a ping."""

    async def attempt(client: Client) -> None:
        denied: list[str] = []
        forget = client.connection.on_denied(denied.append)
        for subject in wanted:
            subscription = await client.connection.subscribe(subject, lambda _: None)
            with contextlib.suppress(nats.errors.Error):
                await client.connection.flush()
            await asyncio.sleep(0)
            await subscription.close()
        forget()
        if denied:
            raise PermissionDenied(denied[0])

    return attempt


async def lists(client: Client) -> None:
    await client.list(limit=1)
    await client.workers()


async def reads(client: Client) -> None:
    for stream in (subjects.TASKS, subjects.RECORDS, subjects.DEAD):
        await client.js.last(stream, ">")


async def shows(client: Client) -> None:
    for stream in streams.streams():
        await client.js.stream_info(stream["name"])


async def waits(client: Client) -> None:
    await client.pauses()
    await client.js.consumers(subjects.TASKS)
    await client.why(f"waits-{client.options.user}")


async def submits(client: Client) -> None:
    await client.submit("x", kind="echo", queue="nobody")


async def cancels(client: Client) -> None:
    await client.cancel(f"waits-{client.options.user}")


async def retries(client: Client) -> None:
    await client.retry(f"failed-{client.options.user}")


async def pauses(client: Client) -> None:
    await client.pause("reports")
    await client.resume("reports")


async def takes(client: Client) -> None:
    name = subjects.consumer("other", Priority.NORMAL)
    ask = json.dumps({"batch": 1, "no_wait": True}).encode()
    await client.connection.request(
        f"$JS.API.CONSUMER.MSG.NEXT.AGENTFLOW_TASKS.{name}", ask, timeout=WITHIN
    )


async def changes_streams(client: Client) -> None:
    """Which none of these does: each names what is there already."""
    known = await client.js.stream_info(subjects.DEAD)
    await client.js.api(f"STREAM.UPDATE.{subjects.DEAD}", known["config"])


def purges(stream: str) -> Attempt:
    async def attempt(client: Client) -> None:
        await client.js.purge(stream, "agentflow.none")

    return attempt


async def keeps_answers(client: Client) -> None:
    await client.js.last(subjects.CACHE_STREAM, "$KV.agentflow_cache.none")
    await client.connection.request("$KV.agentflow_cache.none", b"{}", timeout=WITHIN)


async def sets_budgets(client: Client) -> None:
    await budgets.set_to(client.js, "queue:nobody", 1_000_000)
    await budgets.removed(client.js, "queue:nobody")


async def has_answers_sent(client: Client) -> None:
    """Ask for anything and have the answer sent to a key of the bucket."""
    key = f"$KV.agentflow.pause.redirected-{secrets.token_hex(4)}"
    client.connection.publish("$JS.API.INFO", b"", reply=key)
    for _ in range(20):
        await client.connection.flush()
        with contextlib.suppress(NotFound):
            if await client.js.last(subjects.KV_STREAM, key) is not None:
                return
        await asyncio.sleep(0.01)
    raise PermissionDenied("nothing of it arrived")


POWERS: Final[dict[str, Attempt]] = {
    "list, get, workers": lists,
    "stats": sends("agentflow.api.stats"),
    "watch, see texts as they come": hears("agentflow.live.results.>", "agentflow.tokens.x"),
    "read all payloads, results, dead letters": reads,
    "streams show": shows,
    "see pauses, `why`": waits,
    "submit": submits,
    "have a master submit, `run`": sends("agentflow.api.submit"),
    "keep answers in the cache": keeps_answers,
    "say what a job is and may cost": sends("$KV.agentflow.job.x", "$KV.agentflow.budgets.job.x"),
    "cancel": cancels,
    "retry what failed": retries,
    "withdraw; write dead letters": sends("agentflow.dead.nobody.x"),
    "ask workers, drain them": sends("agentflow.control.worker.nobody"),
    "drain masters": sends("agentflow.control.master.nobody"),
    "pause and resume": pauses,
    "set budgets": sets_budgets,
    "cancel batches": sends("$KV.agentflow.batches.x.y"),
    "keep the gateway's tokens": sends("$KV.agentflow.token.x"),
    "take tasks": takes,
    "write their progress": sends("agentflow.progress.powers", block=NEVER),
    "write any result": sends("agentflow.results.powers", block=NEVER),
    "park: have anything submitted later": sends("agentflow.schedule.x.1"),
    "create the streams": sends("$JS.API.STREAM.CREATE.AGENTFLOW_TASKS"),
    "make or change the consumers of queues": sends(
        "$JS.API.CONSUMER.CREATE.AGENTFLOW_TASKS.powers-low"
    ),
    "change streams, `streams apply`": changes_streams,
    "remove payloads": purges(subjects.OBJECTS),
    "purge streams": purges(subjects.RECORDS),
    "delete streams": sends("$JS.API.STREAM.DELETE.NONE"),
    "have the server send an answer to any subject": has_answers_sent,
}


async def may(client: Client, attempt: Attempt) -> bool:
    """Whether the server permits it."""
    try:
        await attempt(client)
    except PermissionDenied:
        return False
    except BusError:
        return True
    return True


ROLES: Final = ("viewer", "submitter", "operator", "gateway", "worker", "master", "admin")


def table(found: dict[str, dict[str, bool]]) -> str:
    """As the page has it: power, then a column a role."""
    lines = [f"| | {' | '.join(ROLES)} |", "|---|" + "---|" * len(ROLES)]
    for power, by in found.items():
        marks = " | ".join("yes" if by[role] else "" for role in ROLES)
        lines.append(f"| {power} | {marks} |")
    return "\n".join(lines) + "\n"


PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
BEGIN: Final = "<!-- tests/integration/test_powers.py tries each of these and writes this. -->\n"
END: Final = "<!-- end of the table -->\n"


def documented() -> str:
    """The table of the page."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def write(text: str) -> None:
    """Put a table into the page."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    PAGE.write_text(before + begin + text + end + after, encoding="utf-8")
