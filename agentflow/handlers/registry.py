"""Which handler runs which kind. Each is imported only by a worker that runs its kind."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from agentflow.errors import UsageError
from agentflow.handlers.contract import Handler

if TYPE_CHECKING:
    from agentflow.handlers.claude.handler import ClaudeHandler


@runtime_checkable
class Service(Protocol):
    """A handler that holds something open for as long as its worker runs."""

    async def start(self) -> None:
        """Called once, before the first task."""

    async def close(self) -> None:
        """Called once, after the last task."""


@runtime_checkable
class AsksClaude(Protocol):
    """A handler that asks Claude itself, through the one client of its process."""

    def use_claude(self, handler: Handler) -> None:
        """Called before `start`, where this process also runs kind `claude`."""


_CLAUDE: Final = "agentflow.handlers.claude.handler"


def _import_claude() -> None:
    # Here and not above: it imports anthropic, which takes 1.2 s and 80 MB. Two fifths of that are
    # the types of the beta API, which the SDK's own errors pull in.
    collects = gc.isenabled()
    gc.disable()  # three thousand modules that all stay: walking them again and again is a tenth
    try:
        importlib.import_module(_CLAUDE)
    finally:
        if collects:
            gc.enable()


def import_ahead(kinds: Sequence[str] | None, own: Mapping[str, Handler] | None) -> None:
    """Begin to import what takes long of what `load` will need: a connection is made meanwhile."""
    wanted = "claude" in kinds or ALL in kinds if kinds is not None else not own
    if wanted and "claude" not in (own or {}) and _CLAUDE not in sys.modules:
        threading.Thread(target=_try_importing, daemon=True).start()


def _try_importing() -> None:
    with suppress(Exception):  # raised again where the import is asked for
        _import_claude()


def make_claude() -> ClaudeHandler:
    """The handler of kind `claude`, not started."""
    _import_claude()
    from agentflow.handlers.claude.handler import ClaudeHandler

    return ClaudeHandler(pool=os.environ.get("AGENTFLOW_POOL") or None)


def _echo() -> Handler:
    from agentflow.handlers.echo import echo

    return echo


def _sleep() -> Handler:
    from agentflow.handlers.sleep import sleep

    return sleep


def _claude_cli() -> Handler:
    from agentflow.handlers.claude_cli.handler import ClaudeCliHandler

    return ClaudeCliHandler()


def _webhook() -> Handler:
    from agentflow.handlers.webhook.handler import WebhookHandler

    return WebhookHandler()


KINDS: Final[Mapping[str, Callable[[], Handler]]] = {
    "claude": make_claude,
    "echo": _echo,
    "sleep": _sleep,
    "claude-cli": _claude_cli,
    "webhook": _webhook,
}
ALL: Final = "all"
"""Stands for an app's kinds and ours."""
ON_REQUEST: Final = frozenset({"claude-cli", "webhook"})
"""Run only where they are named: the one lets a model run programs on the worker's machine, the
other sends what happens to hosts elsewhere."""


def load(
    kinds: Sequence[str] | None = None, own: Mapping[str, Handler] | None = None
) -> dict[str, Handler]:
    """The handlers of `kinds`, not started; `own` come before ours of the same name.

    Without `kinds` those of `own`, or without these all of ours but those ON_REQUEST; `all` means
    both together. Raises UsageError for an unknown kind.
    """
    own = own or {}
    known = dict.fromkeys([*own, *KINDS])
    ours = [kind for kind in KINDS if kind not in ON_REQUEST]
    chosen: list[str] = []
    for kind in (own or ours) if kinds is None else kinds:
        chosen += [*own, *ours] if kind == ALL and ALL not in own else [kind]
    wanted = dict.fromkeys(chosen)
    unknown = [kind for kind in wanted if kind not in known]
    if unknown or not wanted:
        named = f"no kind {unknown[0]!r}" if unknown else "no kind given"
        raise UsageError(f"{named}; there are {', '.join(known)}")
    handlers = {kind: own[kind] if kind in own else KINDS[kind]() for kind in wanted}
    if "claude" in handlers and "claude" not in own:
        asking: list[object] = list(own.values())
        for handler in asking:
            if isinstance(handler, AsksClaude):
                handler.use_claude(handlers["claude"])
    return handlers


@asynccontextmanager
async def open_handlers(
    kinds: Sequence[str] | None = None, own: Mapping[str, Handler] | None = None
) -> AsyncIterator[dict[str, Handler]]:
    """What `load` gives, started; closed at the end. Raises UsageError, KeyMissing."""
    handlers = load(kinds, own)
    async with AsyncExitStack() as stack:
        # Ours first: functions of one's own may ask the Claude handler.
        for handler in sorted(handlers.values(), key=lambda one: isinstance(one, AsksClaude)):
            if isinstance(handler, Service):
                await handler.start()
                stack.push_async_callback(handler.close)
        yield handlers
