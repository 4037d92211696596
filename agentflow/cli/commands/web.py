"""`agentflow web`: open the page, logged in."""

from __future__ import annotations

import click

from agentflow.cli import options
from agentflow.cli.options import connection_options

LINK_HOLDS = 300.0


@click.command("web")
@click.option(
    "--url",
    default="http://127.0.0.1:8849",
    show_default=True,
    metavar="URL",
    help="Where the gateway is.",
)
@click.option(
    "--role",
    type=click.Choice(["viewer", "submitter", "operator", "admin"]),
    default="admin",
    show_default=True,
    help="What the page may do.",
)
@click.option("--print", "only_print", is_flag=True, help="Print the link, open nothing.")
@connection_options
def command(url: str, role: str, only_print: bool, **connection: str | None) -> None:
    """Open the web page in the browser, by a link that logs in once within five minutes.

    Whoever may write to NATS may make such a link. The session that it opens lasts twelve hours.
    """
    import webbrowser

    from agentflow.cli import output
    from agentflow.protocol.tokens import Role

    async def work() -> str:
        async with options.client(connection) as client:
            chosen: Role = role  # type: ignore[assignment]  # click has checked it
            text, _ = await client.operate.tokens.create(
                chosen, ttl=LINK_HOLDS, name="link", once=True
            )
            return text

    # Behind the #: it reaches no server's log, and no other page.
    link = f"{url.rstrip('/')}/login#{options.run_async(work())}"
    output.show(link)
    if not only_print:
        webbrowser.open(link)
