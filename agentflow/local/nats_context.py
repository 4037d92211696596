"""A context of the plain nats CLI for the local stack, so that it knows the password too.

One context, `agentflow`, is ours: its description says so, and another of that name is left alone.
It is selected only where none is, since a person's own choice may lead to somewhere else.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from agentflow.config import Connect, context_file
from agentflow.local.store import replace

NAME: Final = "agentflow"
OURS: Final = "The local stack that `agentflow up` started last; written at each start."


class _Context(msgspec.Struct):
    description: str = ""
    url: str = ""
    user: str = ""
    password: str = ""


def write(connect: Connect, environ: Mapping[str, str] = os.environ) -> bool:
    """Make the context lead to this server; whether it now does.

    False where a person has a context of this name, or the directory cannot be written.
    """
    path = context_file(NAME, environ)
    context = _Context(OURS, connect.urls[0], connect.user or "", connect.password or "")
    try:
        if _foreign(path):
            return False
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace(path, msgspec.json.format(msgspec.json.encode(context)) + b"\n")
        _select(path.parent.parent / "context.txt")
    except OSError:
        return False
    return True


def _foreign(path: Path) -> bool:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Context).description != OURS
    except FileNotFoundError:
        return False
    except msgspec.MsgspecError:
        return True


def _select(chosen: Path) -> None:
    try:
        if chosen.read_text().strip():
            return
    except FileNotFoundError:
        pass
    replace(chosen, NAME.encode())


def command(environ: Mapping[str, str] = os.environ) -> str:
    """How the nats CLI is called with the context.

    It looks in the home that the system has for this user, whatever HOME says.
    """
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        home = environ.get("HOME", "")
    folder = context_file(NAME, environ).parents[2]
    named = environ.get("XDG_CONFIG_HOME") or folder == Path(home) / ".config"
    return f"{'' if named else f'XDG_CONFIG_HOME={folder} '}nats --context {NAME}"
