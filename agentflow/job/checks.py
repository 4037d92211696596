"""What a worker, the SDK or the API would refuse, told before anything is spent. Pure.

A worker decides by the same functions; what is added here is what would be refused only after
others were paid: the shapes of a request's fields, by the SDK's own types, and what those types do
not say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from agentflow.errors import InvalidTask
from agentflow.handlers.claude import request
from agentflow.handlers.claude_cli import arguments
from agentflow.handlers.echo import check_prompt
from agentflow.handlers.sleep import seconds_of
from agentflow.job import conversations
from agentflow.protocol import jobs, limits, task
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task, TaskBody, encode_body
from agentflow.rules.routes.dearest import dearest
from agentflow.rules.routes.prices import Prices

Check = Callable[[Task], object]
"""Raises InvalidTask for a task that its kind would refuse."""

_GROWS: Final = 6
"""A character may take so many times its bytes as JSON."""
_MOST_OUTPUT: Final = 1_000_000
"""Tokens; far above what any model answers, so more is a mistake in typing."""
_LEAST_THINKING: Final = 1_024
_MODEL: Final = re.compile(r"\S+")

_Share = Annotated[float, Meta(ge=0, le=1)]
_Object = dict[str, Any]


class _Params(msgspec.Struct, kw_only=True):
    """Fields of a request of which the SDK's types say too little, or nothing."""

    messages: Annotated[list[Any], Meta(min_length=1)] | None = None
    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=_MOST_OUTPUT)] | None = None
    temperature: _Share | None = None
    top_p: _Share | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    extra_headers: dict[str, str | None] | None = None
    extra_query: _Object | None = None
    extra_body: _Object | None = None


_BESIDES: Final = frozenset(
    {"temperature", "top_p", "top_k", "betas", *request.REFUSED, *request.SDK_ONLY}
)
"""Of params: what older models take, and what is for the SDK."""


class _Everything:
    """As if the SDK knew every parameter: its version decides none of what is checked here."""

    def __contains__(self, name: object) -> bool:
        return True


EVERYTHING: Final = _Everything()


def check(
    body: TaskBody,
    size: int,
    *,
    own: Mapping[str, Check] | None = None,
    prices: Prices | None = None,
) -> None:
    """Raise InvalidTask for a task that would be refused later.

    `size`: bytes of its texts; `own`: what one's own handlers say of theirs, by kind; `prices`
    where the cost is limited: what has no price cannot be held to it.
    """
    if size * _GROWS > limits.PAYLOAD_BYTES:
        task.check_size(len(encode_body(body)))  # a text may be longer as JSON
    made = task.build(body, {}, "", Priority.NORMAL, "")  # how far ahead not_before lies, too
    start = made.not_before
    if made.deadline is not None and start is not None and made.deadline <= start:
        raise InvalidTask("its deadline lies before its not_before")
    checked = (own or {}).get(made.kind) or _OURS.get(made.kind)
    if checked is None:
        return
    try:
        checked(made)
        if prices is not None and made.kind not in (own or {}):
            _check_price(made, prices)
    except InvalidTask as error:
        raise InvalidTask(str(error).removeprefix("task : "), reason=error.reason) from None


def check_room(labels: Mapping[str, str]) -> None:
    """Raise InvalidTask where a job cannot put its own label beside these."""
    if jobs.LABEL in labels:
        raise InvalidTask(f"the label {jobs.LABEL!r} is the job's own; give it another name")
    if len(labels) >= limits.LABELS:
        raise InvalidTask(
            f"it has {len(labels)} labels; with the job's own a task has {limits.LABELS} at most"
        )


def _check_price(made: Task, prices: Prices) -> None:
    match made.kind:
        case "claude":
            with suppress(request.NotItsOwn):
                most = dearest(request.build(made, EVERYTHING), prices)
                if most.micro is None:
                    text = f"--max-cost cannot hold: {most.unpriced}"
                    raise InvalidTask(f"{text}; AGENTFLOW_PRICES may give one")
        case "claude-cli":
            if arguments.build(made).params.max_budget_usd is None:
                raise InvalidTask(
                    "--max-cost needs params.max_budget_usd of kind claude-cli, its own bound"
                )


def overdue(body: TaskBody) -> str | None:
    """Why a task can never start any more, as a sentence."""
    if body.deadline is None or body.deadline > datetime.now(UTC):
        return None
    return f"its deadline {body.deadline.isoformat()} has passed"


def _check_claude(made: Task) -> None:
    if made.prompt is not None and not made.prompt.strip():
        raise InvalidTask("prompt is blank")
    if (model := made.model or made.params.get("model")) and _MODEL.fullmatch(str(model)) is None:
        raise InvalidTask(f"the model {model!r:.80} is no name: it has white space in it")
    if made.max_tokens is not None and made.max_tokens > _MOST_OUTPUT:
        raise InvalidTask(f"max_tokens is {made.max_tokens:,}; no model answers as much")
    if made.schema is not None:
        from agentflow.rules import schemas  # 30 ms that only these pay

        schemas.checked(made.schema)
    if made.params:
        _check_params(made)
    with suppress(request.NotItsOwn):  # the worker refuses that one, and the others are answered
        request.build(made, EVERYTHING)
    if made.params:
        _check_together(made)


def _check_params(made: Task) -> None:
    try:
        msgspec.convert(made.params, _Params)
    except msgspec.ValidationError as error:
        raise InvalidTask(str(error).replace("`$.", "`$.params.")) from None
    for name, reason in request.REFUSED.items():
        if name in made.params:
            raise InvalidTask(f"params.{name} cannot be set: {reason}")
    # Here and not above: it imports the SDK, and most tasks have a prompt and nothing else.
    from agentflow.handlers.claude import shapes

    problem = shapes.wrong(made.params, _BESIDES, lenient=_asks_for_betas(made.params))
    if problem is not None:
        raise InvalidTask(problem)


def _asks_for_betas(params: Mapping[str, Any]) -> bool:
    names = (params.get("extra_headers") or {}) if "betas" not in params else ("anthropic-beta",)
    return any(name.lower() == request.BETAS for name in names)


def _check_together(made: Task) -> None:
    """What no type says: fields against each other."""
    params = made.params
    conversations.check_messages(params.get("messages") or ())
    for at, sequence in enumerate(params.get("stop_sequences") or ()):
        if not sequence.strip():
            raise InvalidTask(f"params.stop_sequences[{at}] is blank")
    extra = params.get("extra_body") or {}
    tools = params.get("tools") or extra.get("tools")
    conversations.check_tools(tools)
    choice = params.get("tool_choice")
    if choice and not tools and "mcp_servers" not in {*params, *extra}:
        raise InvalidTask("params.tool_choice is given without params.tools")
    if choice and choice.get("type") == "tool" and isinstance(tools, list):
        names = [tool.get("name") for tool in tools if isinstance(tool, dict)]
        if choice.get("name") not in names:
            raise InvalidTask(f"params.tool_choice names {choice.get('name')!r:.80}, no tool of it")
    form = (params.get("output_config") or {}).get("format") or {}
    if isinstance(form.get("schema"), dict):
        from agentflow.rules import schemas

        schemas.check_form(form["schema"])
    _check_thinking(made, params.get("thinking") or {})


def _check_thinking(made: Task, thinking: Mapping[str, Any]) -> None:
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or _asks_for_betas(made.params):
        return  # interleaved with tools, a budget is for all turns together
    most = made.max_tokens or made.params.get("max_tokens") or request.DEFAULT_MAX_TOKENS
    if budget < _LEAST_THINKING:
        raise InvalidTask(
            f"params.thinking.budget_tokens is {budget}; the least is {_LEAST_THINKING:,}"
        )
    if budget >= most:
        raise InvalidTask(
            f"params.thinking.budget_tokens is {budget:,}; it must be less than max_tokens, which "
            f"is {most:,}"
        )


_OURS: Final[Mapping[str, Check]] = {
    "claude": _check_claude,
    "claude-cli": arguments.build,
    "sleep": seconds_of,
    "echo": check_prompt,
}
