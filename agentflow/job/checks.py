"""What a worker or the SDK would refuse, told before anything is spent. Pure.

A worker decides by the same functions; what is added here are the shapes of a request's fields, for
which the SDK or the API would refuse it after others were paid.
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from agentflow.errors import InvalidTask
from agentflow.handlers.claude import request
from agentflow.handlers.claude_cli import arguments
from agentflow.protocol import limits, task
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import TaskBody, encode_body, parse_body
from agentflow.rules.routes.dearest import dearest
from agentflow.rules.routes.prices import Prices

_GROWS: Final = 6
"""A character may take so many times its bytes as JSON."""

_Share = Annotated[float, Meta(ge=0, le=1)]
_Object = dict[str, Any]


class _Block(msgspec.Struct):
    type: str


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Params(msgspec.Struct, kw_only=True):
    """Fields of a request that have one shape only; what is not here goes to the API as it is."""

    messages: Annotated[list[_Message], Meta(min_length=1)] | None = None
    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    system: str | list[_Block] | None = None
    temperature: _Share | None = None
    top_p: _Share | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    tools: list[_Object] | None = None
    tool_choice: _Object | None = None
    thinking: _Object | None = None
    metadata: _Object | None = None
    output_config: _Object | None = None
    service_tier: str | None = None
    extra_headers: dict[str, str | None] | None = None
    extra_query: _Object | None = None
    extra_body: _Object | None = None


class _Everything:
    """As if the SDK knew every parameter: its version decides none of what is checked here."""

    def __contains__(self, name: object) -> bool:
        return True


EVERYTHING: Final = _Everything()


def check(
    body: TaskBody, size: int, *, own: Container[str] = (), prices: Prices | None = None
) -> None:
    """Raise InvalidTask for a task that would be refused later.

    `size`: bytes of its texts; `own`: kinds whose rules are their handler's; `prices` where the
    cost is limited: what has no price cannot be held to it.
    """
    if size * _GROWS > limits.TASK_BYTES:
        parse_body(encode_body(body), {})  # a text may be longer as JSON
    made = task.build(body, {}, "", Priority.NORMAL, "")  # how far ahead not_before lies, too
    kind = made.kind
    if kind in own:
        return
    try:
        if kind == "claude":
            _check_claude(made, prices)
        elif kind == "claude-cli":
            _check_claude_cli(made, limited=prices is not None)
    except InvalidTask as error:
        raise InvalidTask(str(error).removeprefix("task : "), reason=error.reason) from None


def _check_claude_cli(made: task.Task, *, limited: bool) -> None:
    if arguments.build(made).params.max_budget_usd is None and limited:
        raise InvalidTask(
            "--max-cost needs params.max_budget_usd of kind claude-cli, its own bound"
        )


def _check_claude(made: task.Task, prices: Prices | None) -> None:
    if made.params:
        try:
            msgspec.convert(made.params, _Params)
        except msgspec.ValidationError as error:
            text = str(error).replace("`$.", "`$.params.")
            raise InvalidTask(text) from None
    with suppress(request.NotItsOwn):  # the worker refuses that one, and the others are answered
        asked = request.build(made, EVERYTHING)
        if prices is not None and (most := dearest(asked, prices)).micro is None:
            raise InvalidTask(
                f"--max-cost cannot hold: {most.unpriced}; AGENTFLOW_PRICES may give one"
            )
