"""`agentflow env`: what a shell must know so that other programs reach the local stack."""

from __future__ import annotations

import shlex

import click

from agentflow.cli import output
from agentflow.config import local_stack
from agentflow.errors import NotConnected


@click.command("env")
@click.option("--store", metavar="DIR", help="Directory of the local stack; else AGENTFLOW_STORE.")
def command(store: str | None) -> None:
    """Print how to reach the local stack, for a shell.

    The nats CLI and other clients of NATS take server, user and password from the environment:

        eval "$(agentflow env)"

    What is printed has the password in it. Our own commands need none of this: they find the stack.
    Exits 3 where no stack runs.
    """
    found = local_stack(store)
    if found is None:
        raise NotConnected("no local stack runs here; start one with `agentflow up`")
    values = {"URL": found.urls[0], "USER": found.user, "PASSWORD": found.password}
    for name, value in values.items():
        if value:
            output.show(f"export NATS_{name}={shlex.quote(value)}")
        else:
            output.show(f"unset NATS_{name}")
    # A context that a person has selected would come before some of these.
    output.show("unset NATS_CONTEXT NATS_CREDS NATS_NKEY NATS_TOKEN")
