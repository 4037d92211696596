"""`agentflow token`: who may use the gateway, and for what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentflow.cli import options
from agentflow.cli.options import Duration, connection_options, json_option

if TYPE_CHECKING:
    from agentflow.protocol.tokens import Token


@click.group("token")
def command() -> None:
    """Tokens for the gateway. Only their hashes are kept, so each is shown once.

    A viewer looks; a submitter also submits and cancels; an operator also retries, pauses and
    drains; an admin also sets budgets. Needs no master.
    """


@command.command("create")
@click.option(
    "--role",
    type=click.Choice(["viewer", "submitter", "operator", "admin"]),
    required=True,
    help="What it may.",
)
@click.option("--queue", multiple=True, metavar="QUEUE", help="Only for this one. Repeatable.")
@click.option("--ttl", type=Duration(), metavar="TIME", help="How long it holds, e.g. 30d.")
@click.option("--name", default="", help="Whose it is, for lists.")
@json_option
@connection_options
def _create(
    role: Any,
    queue: tuple[str, ...],
    ttl: float | None,
    name: str,
    as_json: bool,
    **connection: str | None,
) -> None:
    """Make a token, and print it: nobody can show it again."""
    from agentflow.cli import output

    async def work() -> tuple[str, Token]:
        async with options.client(connection) as client:
            return await client.operate.tokens.create(role, queues=queue, ttl=ttl, name=name)

    text, token = options.run_async(work())
    if as_json:
        output.show_json({"token": text, **_shown(token)})
    else:
        output.show(text)


@command.command("list")
@json_option
@connection_options
def _list(as_json: bool, **connection: str | None) -> None:
    """List the tokens: ids, not the tokens themselves."""
    from agentflow.cli import output

    async def work() -> list[Token]:
        async with options.client(connection) as client:
            return await client.operate.tokens.all()

    found = options.run_async(work())
    if as_json:
        for token in found:
            output.show_json(_shown(token))
        return
    if not found:
        output.show("no tokens")
        return
    headings = ("ID", "ROLE", "QUEUES", "NAME", "BY", "CREATED", "EXPIRES")
    rows = [
        (
            token.id,
            token.role,
            ", ".join(token.queues) or "all",
            token.name,
            token.by,
            output.ago(token.created),
            output.when(token.expires) or "never",
        )
        for token in found
    ]
    output.table(headings, rows)


@command.command("revoke")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@connection_options
def _revoke(ids: tuple[str, ...], **connection: str | None) -> int:
    """Let tokens hold no more, at once and everywhere. Exits 1 where there was none."""
    from agentflow.cli import output
    from agentflow.protocol import tokens

    # The token itself will do, too.
    named = [tokens.token_id(text) or text for text in ids]

    async def work() -> list[bool]:
        async with options.client(connection) as client:
            return [await client.operate.tokens.revoke(one) for one in named]

    there = options.run_async(work())
    for one, was in zip(named, there, strict=True):
        output.show(f"token {one} is revoked" if was else f"there is no token {one}")
    return 0 if all(there) else 1


def _shown(token: Token) -> dict[str, Any]:
    """What may be told of a token."""
    return {
        "id": token.id,
        "role": token.role,
        "queues": token.queues,
        "name": token.name,
        "by": token.by,
        "created": token.created,
        "expires": token.expires,
    }
