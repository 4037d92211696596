"""Alive, ready, measured; and without a server it waits for one."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest

from agentflow.config import Connect
from agentflow.errors import UsageError
from agentflow.gateway.gateway import Gateway
from agentflow.gateway.routes.table import routes
from agentflow.gateway.server import HttpServer, bound
from agentflow.gateway.settings import Settings
from tests.gateway.conftest import Serve, Served
from tests.support.certificates import Authority
from tests.support.nats_server import NatsServer


async def test_it_says_that_it_is_ready_and_what_it_answered(serve: Serve) -> None:
    served = await serve()
    assert (await served.get("/livez")).json["alive"] is True
    assert (await served.get("/readyz")).json == {"ready": True, "reasons": []}
    assert (await served.get("/v1/tasks/none")).status == 404
    text = (await served.get("/metrics")).body.decode()
    told = 'agentflow_gateway_requests_total{route="GET /v1/tasks/{name}",status="404"} 1.0'
    assert told in text
    assert "agentflow_gateway_ready 1.0" in text
    assert 'role="gateway"' in text


async def test_without_a_server_it_is_alive_and_not_ready(
    nats_server: NatsServer, free_port
) -> None:
    nats_server.kill()
    settings = Settings(port=0)
    gateway = Gateway(Connect(urls=(nats_server.url,)), settings)
    server = HttpServer(gateway, routes())
    listener = bound(settings)
    running = asyncio.create_task(gateway.run())
    await server.start(listener)
    async with aiohttp.ClientSession() as session:
        served = Served(gateway, listener.getsockname()[1], session)
        assert (await served.get("/livez")).status == 200
        unready = await served.get("/readyz")
        assert unready.status == 503
        assert unready.json["reasons"]
        refused = await served.post("/v1/tasks", {"prompt": "x"})
        assert refused.status == 503
        assert refused.headers["Retry-After"]
        nats_server.start()
        async with asyncio.timeout(30):
            while (await served.get("/readyz")).status != 200:
                await asyncio.sleep(0.05)
    gateway.closing.set()
    await server.close()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("path", ["/", "/login", "/docs"])
async def test_its_pages_name_parts_that_are_there(serve: Serve, path: str) -> None:
    served = await serve()
    page = (await served.get(path)).body.decode()
    for part in {piece.split('"')[0] for piece in page.split('="page/')[1:]}:
        answer = await served.get(f"/page/{part}")
        assert answer.status == 200, part
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_it_serves_https_with_a_certificate(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.certificate("gateway")
    served = await serve(tls_cert=str(own.pem), tls_key=str(own.key))
    url = f"https://127.0.0.1:{served.port}"
    trusts = ssl.create_default_context(cafile=str(authority.pem))
    async with served.session.get(url + "/livez", ssl=trusts) as answer:
        assert answer.status == 200
    own_page = {"Origin": url, "Content-Type": "application/json"}
    async with served.session.post(
        url + "/v1/tasks", json={"prompt": "x"}, headers=own_page, ssl=trusts
    ) as answer:
        assert answer.status == 201
    with pytest.raises(UsageError, match="cannot be used"):
        Settings(tls_cert=str(own.key)).tls()
