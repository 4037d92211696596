"""The endpoints under /v1/messages/batches, and what goes wrong there.

A failure that the mode or the header asks for (`status`, `fault`) comes at each of them, as at any
endpoint; those of `batches` at the one that they name.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate
from typing import Final, overload
from urllib.parse import parse_qs

from agentflow.simulator import faults, http, messages
from agentflow.simulator.batches import Batch, Batches, Conflict
from agentflow.simulator.http import Request
from agentflow.simulator.knobs import BatchKnobs, Chance, Knobs
from agentflow.simulator.reply import JSON_LINES, JSONL_LINES, End, Frame, Reply, whole
from agentflow.simulator.wire import ENCODER

_PIECE: Final = 64
"""Lines of results that are made, and sent, as one."""


class _Results(Sequence[Frame]):
    """The results of a batch, each piece made when it is sent: all of them may be 100 MB."""

    def __init__(self, batch: Batch, head: bytes, lines: int, *, cut: bool) -> None:
        self._batch = batch
        self._head = head
        self._lines = lines
        self._cut = cut
        self._pieces = -(-lines // _PIECE)

    def __len__(self) -> int:
        return self._pieces + 2

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if index == 0:
            return Frame(0.0, self._head)
        if index > self._pieces:
            return Frame(0.0, b"" if self._cut else http.LAST_CHUNK)
        first = (index - 1) * _PIECE
        lines = range(first, min(first + _PIECE, self._lines))
        data = b"".join(map(self._batch.line, lines))
        if self._cut and index == self._pieces:
            data = data[: max(1, len(data) // 2)]
        return Frame(0.0, http.chunk(data))


class Batching:
    """Answers requests about the batches of a simulator."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self._asked = 0

    def answer(
        self, request: Request, path: list[str], knobs: Knobs, lines: str, request_id: str
    ) -> Reply:
        """What a request is answered; `path` is what stands behind `batches`."""
        self._asked += 1
        lines += f"date: {formatdate(time.time(), usegmt=True)}\r\n"
        if (failure := faults.instead(knobs, lines, request_id)) is not None:
            return failure
        url = f"http://{request.headers.get('host', 'localhost')}"
        try:
            match request.method, path:
                case "POST", []:
                    return self._create(request, knobs, lines, request_id, url)
                case "GET", []:
                    query = {name: values[-1] for name, values in parse_qs(request.query).items()}
                    return _json(self.batches.page(query, url), lines)
                case _, [batch_id, *rest]:
                    told = knobs.batches or BatchKnobs()
                    batch = self.batches.find(batch_id)
                    if self._meets(told.missing, knobs, "missing"):
                        batch = None
                    if batch is None:
                        return faults.error(404, f"Batch {batch_id} not found", lines, request_id)
                    return self._one(request, batch, rest, knobs, lines, request_id, url)
        except (messages.InvalidRequest, Conflict) as error:
            return faults.error(400, str(error), lines, request_id)
        return faults.error(404, f"Not found: {request.method} {request.path}", lines, request_id)

    def _meets(self, share: float, knobs: Knobs, what: str) -> bool:
        return share > 0 and Chance(knobs.seed, f"{what}.{self._asked}", 0).share() < share

    def _create(
        self, request: Request, knobs: Knobs, lines: str, request_id: str, url: str
    ) -> Reply:
        told = knobs.batches or BatchKnobs()
        most = told.bytes_most or http.MAX_BATCH
        if len(request.body) > most:
            return faults.error(413, f"Request exceeds {most:,} bytes", lines, request_id)
        asked = self.batches.parse(request.body, strict=told.strict)
        wait = f"retry-after: {told.retry_after:g}\r\n"
        if self._meets(told.refused, knobs, "refused"):
            text = "SIMULATED refusal of a batch"
            return faults.error(told.refused_by, text, lines + wait, request_id)
        if self.batches.waits(asked, told.queued_most):
            text = "Too many batch requests are in the queue"
            return faults.error(429, text, lines + wait, request_id)
        name = request_id.removeprefix("req_")
        batch = self.batches.create(name, asked, len(request.body), knobs)
        if self._meets(told.lost, knobs, "lost"):
            return _lost(told.lost_by, lines, request_id)
        return _json(batch.shown(url), lines)

    def _one(
        self,
        request: Request,
        batch: Batch,
        rest: list[str],
        knobs: Knobs,
        lines: str,
        request_id: str,
        url: str,
    ) -> Reply:
        match request.method, rest:
            case "GET", []:
                return _json(batch.shown(url), lines)
            case "DELETE", []:
                return _json(self.batches.delete(batch), lines)
            case "POST", ["cancel"]:
                self.batches.cancel(batch)
                return _json(batch.shown(url), lines)
            case "GET", ["results"]:
                if not batch.ended:
                    raise Conflict(f"Batch {batch.id} is {batch.status}: it has no results yet")
                return self._results(batch, knobs, lines)
        return faults.error(404, f"Not found: {request.method} {request.path}", lines, request_id)

    def _results(self, batch: Batch, knobs: Knobs, lines: str) -> Reply:
        told, count = knobs.batches or BatchKnobs(), len(batch.asked)
        chance = Chance(knobs.seed, f"results.{batch.id}", self.batches.read(batch))
        draw = chance.share()
        head = http.response_head(200, JSONL_LINES + lines, length=None)
        cut = draw < told.cut
        if cut:
            count = max(1, int(count * chance.share()))
        elif draw < told.cut + told.short:
            count -= 1
        end = End.CLOSE if cut else End.KEEP
        return Reply(_Results(batch, head, count, cut=cut), end, 200, "cut" if cut else None)


def _json(value: object, lines: str) -> Reply:
    return whole(200, JSON_LINES + lines, ENCODER.encode(value))


def _lost(how: str, lines: str, request_id: str) -> Reply:
    """The create is done, and its answer does not come."""
    match how:
        case "reset":
            reply = Reply([Frame(0.0, b"")], End.RESET)
        case "hang":
            reply = Reply([], End.HANG)
        case "500":
            return faults.error(500, "SIMULATED api_error", lines, request_id)
        case _:
            reply = Reply([Frame(0.0, b"")], End.CLOSE)
    reply.fault = "lost"
    return reply
