"""Who may do what: tokens, roles, queues, sessions, origins, hosts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentflow.client import Client
from agentflow.errors import UsageError
from agentflow.gateway import process
from agentflow.gateway.server import CORS_METHODS
from agentflow.gateway.settings import Settings
from agentflow.protocol import tokens
from agentflow.protocol.tokens import Role, Token
from agentflow.rules import authority
from agentflow.rules.authority import Identity
from tests.gateway.conftest import Serve, Served

ECHO = {"kind": "echo", "prompt": "x"}


async def bearer(served: Served, client: Client, role: Role, **options: Any) -> dict[str, str]:
    """The header of a new token, once the gateway knows it."""
    text, _ = await client.operate.tokens.create(role, **options)
    await served.gateway.hears_of(text)
    return {"Authorization": f"Bearer {text}"}


async def test_without_a_token_nobody_comes_in(serve: Serve, client: Client) -> None:
    served = await serve(secured=True)
    refused = await served.get("/v1/tasks")
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert "agentflow token create" in refused.json["detail"]
    for header in ("Bearer nonsense", "Bearer af_abcdefgh_" + "x" * 43, "Basic eDp5"):
        assert (await served.get("/v1/tasks", headers={"Authorization": header})).status == 401
    for path in ("/livez", "/readyz", "/", "/login", "/openapi.json"):
        assert (await served.get(path)).status == 200
    async with served.session.get(served.url + "/ws") as response:
        assert response.status == 401


async def test_each_role_may_what_it_may(serve: Serve, client: Client) -> None:
    served = await serve(secured=True)
    asked = [
        ("viewer", "GET", "/v1/tasks", None),
        ("submitter", "POST", "/v1/tasks", ECHO),
        ("operator", "POST", "/v1/queues/default/pause", None),
        ("admin", "PUT", "/v1/budgets/*", {"limit_usd": 5}),
    ]
    for rank, role in enumerate(tokens.ROLES):
        header = await bearer(served, client, role)
        for needed, (_, method, path, body) in enumerate(asked):
            answer = await served.ask(method, path, body, headers=header)
            assert (answer.status < 300) == (needed <= rank), (role, path, answer.json)
            if needed > rank:
                assert answer.status == 403
                assert asked[needed][0] in answer.json["detail"]


async def test_a_token_of_a_queue_reaches_nothing_else(serve: Serve, client: Client) -> None:
    served = await serve(secured=True)
    header = await bearer(served, client, "operator", queues=["docs"])
    await client.submit("x", id="mine", queue="docs", kind="echo")
    await client.submit("x", id="theirs", queue="secret", kind="echo")
    async with asyncio.timeout(20):
        while len(served.gateway.store.rows) < 2:
            await asyncio.sleep(0.02)
    listed = await served.get("/v1/tasks", headers=header)
    assert [task["id"] for task in listed.json["tasks"]] == ["mine"]
    assert (await served.get("/v1/tasks/theirs", headers=header)).status == 404
    assert (await served.post("/v1/tasks/theirs/cancel", headers=header)).status == 404
    assert (await served.post("/v1/tasks", ECHO, headers=header)).status == 403
    mine = ECHO | {"queue": "docs"}
    assert (await served.post("/v1/tasks", mine, headers=header)).status == 201
    for path in ("/v1/views/tasks", "/v1/workers", "/v1/dead", "/v1/costs"):
        assert (await served.get(path, headers=header)).status == 403, path
    assert (await served.post("/v1/queues/secret/pause", headers=header)).status == 403
    many = {"queue": "secret", "dry_run": True}
    assert (await served.post("/v1/tasks/cancel", many, headers=header)).status == 403
    ids = {"ids": ["theirs"]}
    assert (await served.post("/v1/tasks/cancel", ids, headers=header)).status == 404
    async with served.events("/v1/events", headers=dict(header)) as events:
        await client.submit("x", id="theirs-2", queue="secret", kind="echo")
        await client.submit("x", id="mine-2", queue="docs", kind="echo")
        told = await events.next()
        assert told is not None
        assert told.data["taskId"] == "mine-2"


async def test_a_revoked_token_and_an_old_one_hold_no_more(serve: Serve, client: Client) -> None:
    served = await serve(secured=True)
    text, token = await client.operate.tokens.create("viewer")
    await served.gateway.hears_of(text)
    header = {"Authorization": f"Bearer {text}"}
    assert (await served.get("/v1/tasks", headers=header)).status == 200
    assert await client.operate.tokens.revoke(token.id)
    async with asyncio.timeout(20):
        while (await served.get("/v1/tasks", headers=header)).status != 401:
            await asyncio.sleep(0.02)
    kept = Token(
        id=token.id,
        hash=tokens.digest(text),
        role="viewer",
        created=token.created,
        expires=token.created + timedelta(seconds=60),
    )
    assert authority.of_token(kept, text, token.created) == Identity(
        "viewer", name=f"token {token.id}"
    )
    assert authority.of_token(kept, text, token.created + timedelta(seconds=61)) is None
    assert authority.of_token(kept, text + "x", token.created) is None


async def test_a_link_logs_in_once_and_its_cookie_is_the_pages_alone(
    serve: Serve, client: Client
) -> None:
    served = await serve(secured=True)
    text, _ = await client.operate.tokens.create("operator", ttl=60, once=True)
    await served.gateway.hears_of(text)
    login = await served.post("/v1/session", {"token": text})
    assert (login.status, login.json["role"]) == (200, "operator")
    cookie = login.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert text not in cookie
    assert (await served.get("/v1/session")).json["role"] == "operator"
    # The cookie alone is not enough for an act: the page that asks must be ours.
    assert (await served.post("/v1/queues/default/pause")).status == 403
    own = {"Origin": served.url}
    assert (await served.post("/v1/queues/default/pause", headers=own)).status == 200
    foreign = {"Origin": "http://evil.example"}
    assert (await served.post("/v1/queues/default/pause", headers=foreign)).status == 403
    async with served.session.get(served.url + "/ws", headers=foreign) as response:
        assert response.status == 403
    async with asyncio.timeout(20):
        link = {"token": text}
        while (again := await served.post("/v1/session", link, headers=own)).status == 200:
            await asyncio.sleep(0.02)
    assert again.status == 401
    assert (await served.ask("DELETE", "/v1/session", headers=own)).status == 204
    assert (await served.get("/v1/session")).status == 401


async def test_another_site_cannot_act_without_a_cookie_either(serve: Serve) -> None:
    served = await serve()
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        refused = await served.post("/v1/tasks", ECHO, headers=headers)
        assert (refused.status, refused.json["type"]) == (403, "urn:agentflow:BadOrigin")
    allowed = await serve(origins=("http://other.example",))
    headers = {"Origin": "http://other.example"}
    answer = await allowed.post("/v1/tasks", ECHO, headers=headers)
    assert answer.status == 201
    assert answer.headers["Access-Control-Allow-Origin"] == "http://other.example"
    asked = await allowed.ask("OPTIONS", "/v1/tasks", headers=headers)
    assert (asked.status, asked.headers["Access-Control-Allow-Methods"]) == (204, CORS_METHODS)
    async with allowed.session.get(allowed.url + "/v1/events", headers=headers) as events:
        assert events.headers["Access-Control-Allow-Origin"] == "http://other.example"
    assert "Access-Control-Allow-Origin" not in (await served.get("/v1/tasks")).headers
    assert (await served.ask("OPTIONS", "/v1/tasks", headers=headers)).status == 405


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8849", "a/b", "", "127.0.0.1.x"])
async def test_a_name_that_is_not_ours_is_refused(serve: Serve, host: str) -> None:
    served = await serve()
    answer = await served.raw(
        f"GET /v1/tasks HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith((b"HTTP/1.1 421", b"HTTP/1.1 400"))


def test_a_bare_address_and_a_listed_name_are_ours() -> None:
    for host in ("127.0.0.1:8849", "localhost", "[::1]:1", "192.168.1.7", "flow.example:443"):
        assert authority.host_allowed(host, {"flow.example"}), host
    for host in ("x.flow.example", "flow.example.evil", "[::1", "user@localhost"):
        assert not authority.host_allowed(host, {"flow.example"}), host


async def test_others_than_this_machine_need_a_token(client: Client) -> None:
    away = Settings(host="0.0.0.0")
    assert process.is_secured(client.options, away)
    assert not process.is_secured(client.options, Settings())
    with pytest.raises(UsageError, match="token create"):
        await process.refuse_unguarded(client.options, away)
    await client.operate.tokens.create("admin")
    await process.refuse_unguarded(client.options, away)


async def test_a_proxy_is_believed_where_it_is_listed(serve: Serve) -> None:
    header = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "flow.example"}
    origin = {"Origin": "https://flow.example"}
    behind = await serve(proxies=("127.0.0.1",), path="/flow")
    assert (await behind.post("/flow/v1/tasks", ECHO, headers=header | origin)).status == 201
    alone = await serve()
    assert (await alone.post("/v1/tasks", ECHO, headers=header | origin)).status == 403
    page = await behind.get("/flow/tasks")
    assert b'<base href="/flow/">' in page.body
    assert (await behind.get("/tasks")).status == 404


def test_a_token_is_kept_as_a_hash() -> None:
    text = tokens.compose("abcd1234", "s" * 43)
    now = datetime.now(UTC)
    token = Token(id="abcd1234", hash=tokens.digest(text), role="admin", created=now)
    assert text.encode() not in tokens.encode(token)
    assert tokens.decode(tokens.encode(token)) == token
    assert tokens.matches(token, text)
    assert tokens.decode(b"{") is None
