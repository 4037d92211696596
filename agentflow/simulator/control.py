"""The endpoints under /_fake: read what happened, say what shall happen."""

from __future__ import annotations

from urllib.parse import parse_qs

import msgspec

from agentflow.simulator import knobs, script
from agentflow.simulator.api import Api
from agentflow.simulator.http import Request
from agentflow.simulator.knobs import KnobError
from agentflow.simulator.reply import JSON_LINES, Reply, whole
from agentflow.simulator.wire import ENCODER

PREFIX = "/_fake/"

_LINES = JSON_LINES + "x-simulated: true\r\n"


class Command:
    """A control request: done at once, and kept out of the log."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    def produced(self, output_tokens: int) -> None:
        """See connection.Exchange."""

    def ended(self, *, disconnected: bool) -> None:
        """See connection.Exchange."""


class _Problem(msgspec.Struct):
    error: str


def answer(api: Api, request: Request) -> Command:
    """Does what a control request asks.

    GET stats[?log=N], GET batches, GET or POST mode, POST script, POST reset. Bad knobs are 400
    and change nothing.
    """
    try:
        match request.method, request.path.removeprefix(PREFIX):
            case "GET", "stats":
                last = parse_qs(request.query).get("log", [""])[-1]
                shown = int(last) if last.isascii() and last.isdigit() else None
                return _done(api.log.stats(script_steps=len(api.scripts), last=shown))
            case "POST", "mode":
                api.set_mode(knobs.parse_layer(request.body or b"{}", sticky=True))
                return _done({"mode": api.mode, "effective": api.effective})
            case "GET", "mode":
                return _done({"mode": api.mode, "effective": api.effective})
            case "POST", "script":
                api.scripts.add(script.parse_scripts(request.body))
                return _done({"script_steps": len(api.scripts)})
            case "GET", "batches":
                return _done(api.batches.ledger())
            case "POST", "reset":
                api.reset()
                return _done({"ok": True})
    except KnobError as error:
        return Command(whole(400, _LINES, ENCODER.encode(_Problem(str(error)))))
    problem = f"no such control: {request.method} {request.path}"
    return Command(whole(404, _LINES, ENCODER.encode(_Problem(problem))))


def _done(value: object) -> Command:
    return Command(whole(200, _LINES, ENCODER.encode(value)))
