"""Webhooks: an event becomes a task that sends it, signed, to where the operator allows."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from agentflow.client import Client
from agentflow.errors import InvalidTask, UsageError
from agentflow.handlers.contract import AttemptFailed, Run
from agentflow.handlers.webhook.handler import WebhookHandler
from agentflow.protocol import webhooks
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task
from agentflow.rules import destinations
from agentflow.worker.worker import Worker
from tests.gateway.conftest import Serve, Served, a_worker
from tests.support import tools
from tests.support.nats_server import NatsServer

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Receiver:
    """Somebody's server, that answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.port = 0
        self.came = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def take(self, request: web.BaseRequest) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        self.came.set()
        status = self.statuses.pop(0) if self.statuses else 204
        headers = {"Location": "http://127.0.0.1:1/"} if status == 302 else {}
        return web.Response(status=status, headers=headers)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    runner = web.ServerRunner(web.Server(found.take))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


def handler(*hosts: str) -> WebhookHandler:
    return WebhookHandler({webhooks.HOSTS: ",".join(hosts), "AGENTFLOW_WEBHOOK_SECRET": SECRET})


async def sent(to: WebhookHandler, url: str, attempt: int = 1) -> Any:
    """What one attempt comes to."""
    params = {
        "url": url,
        "id": "t-1_7",
        "type": "task.succeeded",
        "timestamp": "2026-11-30T00:00:00Z",
        "data": {"taskId": "t-1"},
    }
    task = Task(id="w", queue="webhooks", priority=Priority.NORMAL, kind="webhook", params=params)
    await to.start()
    try:
        return await to(Run(task, attempt=attempt))
    finally:
        await to.close()


async def listed_by(served: Served, query: str, number: int) -> list[Any]:
    """The tasks, once the store has heard of so many."""
    async with asyncio.timeout(20):
        while len(tasks := (await served.get(f"/v1/tasks?{query}")).json["tasks"]) < number:
            await asyncio.sleep(0.02)
    return list(tasks)


async def test_an_event_is_sent_once_and_signed(
    serve: Serve, stack: Worker, client: Client, nats_server: NatsServer, receiver: Receiver
) -> None:
    listed = (f"127.0.0.1:{receiver.port}",)
    sender = handler(*listed)
    await sender.start()
    async with a_worker(nats_server, {"webhook": sender}, queues=["webhooks"]):
        # Two gateways submit it, and a third when the first two are gone: it is one task.
        served, other = await serve(webhooks=listed), await serve(webhooks=listed)
        body = {"kind": "echo", "prompt": "x", "id": "h-1", "webhook": {"url": receiver.url}}
        assert (await served.post("/v1/tasks", body)).status == 201
        async with asyncio.timeout(20):
            await receiver.came.wait()
            while min(served.gateway.sending.sent, other.gateway.sending.sent) < 1:
                await asyncio.sleep(0.02)
        headers, data = receiver.got[0]
        told = json.loads(data)
        assert told["type"] == "task.succeeded"
        assert told["data"]["taskId"] == "h-1"
        assert headers["webhook-id"] == f"h-1_{told['data']['sequence']}"
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + data
        expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        tasks = await listed_by(served, "queue=webhooks", 1)
        assert (await (client.task(tasks[0]["id"])).result(20)).value == {"status": 204}
        assert len(receiver.got) == 1
    await sender.close()


async def test_what_happens_while_no_gateway_runs_is_sent_later(
    serve: Serve, stack: Worker, client: Client, receiver: Receiver
) -> None:
    listed = (f"127.0.0.1:{receiver.port}",)
    first = await serve(webhooks=listed)
    hook = {"url": receiver.url, "events": ["task.started", "task.succeeded"]}
    assert (await first.ask("PUT", "/v1/jobs/job-1/webhook", hook)).status == 200
    async with asyncio.timeout(20):
        while await client.operate.webhooks.cursor() is None:
            await asyncio.sleep(0.02)
    first.gateway.closing.set()
    for task in asyncio.all_tasks():
        if task.get_coro().__qualname__ == "Gateway.run":  # type: ignore[union-attr]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await (await client.submit("x", kind="echo", id="j-1", labels={"job": "job-1"})).result(20)
    second = await serve(webhooks=listed)
    async with asyncio.timeout(20):
        while second.gateway.sending.sent < 2:
            await asyncio.sleep(0.02)
    queued = await listed_by(second, "queue=webhooks&label=of=j-1", 2)
    assert [task["kind"] for task in queued] == ["webhook", "webhook"]


async def test_a_gateway_that_lists_no_host_takes_no_webhook(serve: Serve) -> None:
    served = await serve()
    body = {"prompt": "x", "webhook": {"url": "https://example.com/"}}
    refused = await served.post("/v1/tasks", body)
    assert refused.status == 400
    assert "AGENTFLOW_WEBHOOK_HOSTS" in refused.json["detail"]
    other = await serve(webhooks=("example.com",))
    wrong = {"prompt": "x", "webhook": {"url": "https://example.com/", "events": ["task.exploded"]}}
    assert "there is no event" in (await other.post("/v1/tasks", wrong)).json["detail"]


async def test_an_attempt_is_judged_by_its_answer(receiver: Receiver) -> None:
    listed = f"127.0.0.1:{receiver.port}"
    assert (await sent(handler(listed), receiver.url)).value == {"status": 204}
    receiver.statuses = [503, 302, 404]
    with pytest.raises(AttemptFailed, match="503") as failed:
        await sent(handler(listed), receiver.url, attempt=3)
    assert failed.value.signal.retry_after == 120
    with pytest.raises(InvalidTask, match="redirects are not followed"):
        await sent(handler(listed), receiver.url)
    with pytest.raises(InvalidTask, match="404"):
        await sent(handler(listed), receiver.url)
    assert len(receiver.got) == 4


async def test_a_name_may_not_lead_to_this_machine(receiver: Receiver) -> None:
    url = f"http://localhost:{receiver.port}/"
    with pytest.raises(AttemptFailed, match="private"):
        await sent(handler("localhost"), url)
    assert not receiver.got
    assert (await sent(handler("localhost", "127.0.0.0/8"), url)).value == {"status": 204}


@pytest.mark.parametrize(
    ("url", "listed", "allowed"),
    [
        ("https://hooks.example.com/x?y=z", "hooks.example.com", True),
        ("https://HOOKS.example.com./x", "hooks.example.com", True),
        ("https://a.b.example.com/", "*.example.com", True),
        ("https://example.com/", "*.example.com", False),
        ("https://evil-example.com/", "*.example.com", False),
        ("https://example.com.evil/", "example.com", False),
        ("https://example.com:8443/", "example.com:8443", True),
        ("https://example.com/", "example.com:8443", False),
        ("https://user@example.com/", "example.com", False),
        ("https://example.com@evil/", "example.com", False),
        ("ftp://example.com/", "example.com", False),
        ("http://127.0.0.1:80/", "example.com", False),
        ("http://127.0.0.1:9000/", "127.0.0.1:9000", True),
        ("http://127.0.0.1:9001/", "127.0.0.1:9000", False),
        ("http://[::ffff:127.0.0.1]/", "*", False),
        ("http://2130706433/", "127.0.0.1", False),
        ("http://10.1.2.3/", "10.0.0.0/8", False),
    ],
)
def test_where_a_webhook_may_go(url: str, listed: str, allowed: bool) -> None:
    if allowed:
        destinations.check(url, [listed])
    else:
        with pytest.raises(UsageError):
            destinations.check(url, [listed])


def test_an_address_is_public_or_listed() -> None:
    for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1", "0.0.0.0"):
        assert not destinations.address_allowed(address, ["example.com"]), address
        assert not destinations.address_allowed(f"::ffff:{address}", []) or ":" in address
    assert destinations.address_allowed("8.8.8.8", [])
    assert destinations.address_allowed("10.1.2.3", ["10.1.0.0/16"])


VERIFY = """
import json, sys
from standardwebhooks.webhooks import Webhook
told = json.load(sys.stdin)
print(json.dumps(Webhook(told["secret"]).verify(told["body"], told["headers"])))
"""


@pytest.mark.tools("web")
async def test_the_official_library_believes_what_is_sent(receiver: Receiver) -> None:
    await sent(handler(f"127.0.0.1:{receiver.port}"), receiver.url)
    [(headers, body)] = receiver.got
    signed = {name: text for name, text in headers.items() if name.startswith("webhook-")}
    process = await asyncio.create_subprocess_exec(
        *(str(tools.path("web")), "-c", VERIFY),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    told = {"secret": SECRET, "body": body.decode(), "headers": signed}
    out, _ = await process.communicate(json.dumps(told).encode())
    assert json.loads(out) == json.loads(body)


def test_a_short_secret_is_refused() -> None:
    for text in ("", "whsec_", "whsec_c2hvcnQ=", "not base64!"):
        with pytest.raises(UsageError, match="AGENTFLOW_WEBHOOK_SECRET"):
            webhooks.secret(text)
