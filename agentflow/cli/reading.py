"""Options of the commands that read a file of tasks, and how they read it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agentflow.cli.options import Duration
from agentflow.errors import UsageError

if TYPE_CHECKING:
    from agentflow.job.formats.opening import InputFile
    from agentflow.job.source import Source
    from agentflow.protocol.task import TaskBody

R = TypeVar("R")

FORMATS = ("jsonl", "json", "txt", "csv", "tsv", "parquet", "mixed")


def reading_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add --format, --prompt and --template; `source` reads them."""
    for option in (
        click.option(
            "--template", metavar="FILE", help="File of such a text, instead of --prompt."
        ),
        click.option(
            "--prompt",
            metavar="TEXT",
            help="Prompt of each row: 'Translate {text} into {language}', with its columns.",
        ),
        click.option(
            "--format",
            "format_name",
            type=click.Choice(FORMATS),
            help="What the file is, where its content and name do not say.",
        ),
    ):
        function = option(function)
    return function


def default_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add what holds for lines that name none of it."""
    for option in (
        schema_options,
        click.option("--max-attempts", type=click.IntRange(1, 100), help="Failures, likewise."),
        click.option("--temperature", type=click.FloatRange(0, 1), help="Temperature, likewise."),
        click.option(
            "--max-tokens", type=click.IntRange(min=1), help="Most tokens of an answer, likewise."
        ),
        click.option("--system", help="System prompt, likewise."),
        click.option("--model", help="Model for lines that name none."),
    ):
        function = option(function)
    return function


def schema_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add --schema and --repair; `schema_of` reads the first."""
    for option in (
        click.option(
            "--repair",
            type=click.IntRange(0, 10),
            metavar="N",
            help="Times an answer that breaks the schema is asked again.  [default: 2]",
        ),
        click.option(
            "--schema",
            metavar="FILE",
            help="JSON Schema of the answers, or MODULE:CLASS; `value` has them parsed.",
        ),
    ):
        function = option(function)
    return function


def schema_of(given: str) -> dict[str, Any]:
    """The schema that --schema names. Raises UsageError."""
    from agentflow.cli import schemas

    return schemas.load(given)


def redact_option(function: Callable[..., R]) -> Callable[..., R]:
    """Add that prompts stay out of lists."""
    return click.option(
        "--redact", is_flag=True, help="Lists and records do not show how the prompt begins."
    )(function)


def batch_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add whether tasks go through the Message Batches API."""
    for option in (
        click.option(
            "--batch-expired",
            type=click.Choice(["again", "live"]),
            default="again",
            show_default=True,
            help="What a batch brings no answer for: into the next one, or live at full price.",
        ),
        click.option(
            "--batch-after",
            type=Duration(),
            metavar="TIME",
            help="Into a batch what no live request was answered within so long: 5m.",
        ),
        click.option(
            "--batch",
            is_flag=True,
            help="Ask through the Message Batches API: half the price, within 24 hours.",
        ),
    ):
        function = option(function)
    return function


def batch_of(batch: bool, batch_after: float | None, batch_expired: str) -> dict[str, Any]:
    """The fields that these options are. Raises UsageError."""
    if batch and batch_after is not None:
        raise UsageError("give --batch or --batch-after, not both")
    if batch_expired == "live" and not batch:
        raise UsageError("--batch-expired says what becomes of --batch")
    wanted: bool | str | None = ("once" if batch_expired == "live" else True) if batch else None
    return {"batch": wanted, "batch_after": batch_after}


def source(
    name: str,
    *,
    format_name: str | None,
    prompt: str | None,
    template: str | None,
    carry: str | None = None,
    app: str | None = None,
    simulate: bool = False,
    round: str = "",
    labelled: bool = False,
    limited: bool = False,
    served: frozenset[str] | None = None,
    opened: InputFile | None = None,
    change: Callable[[TaskBody], TaskBody] | None = None,
    schema: str | None = None,
    **defaults: Any,
) -> Source:
    """The input, read and checked whole; where its cost is `limited`, so is that there is one.

    Raises UsageError.
    """
    from agentflow.cli import apps
    from agentflow.handlers import price_file
    from agentflow.job.defaults import Defaults
    from agentflow.job.formats.template import Template
    from agentflow.job.source import Reading, Source

    text = _template(prompt, template)
    if schema is not None:
        defaults["schema"] = schema_of(schema)
    reading = Reading(
        format=format_name,
        template=None if text is None else Template(text),
        defaults=Defaults(**defaults),
        carry=tuple(part.strip() for part in (carry or "").split(",") if part.strip()),
        own=apps.load(app).checks if app else {},
        simulate=simulate,
        round=round,
        labelled=labelled,
        prices=price_file.load() if limited else None,
        served=served,
        change=change,
    )
    return Source(name, sys.stdin.buffer, reading, opened)


def _template(prompt: str | None, file: str | None) -> str | None:
    if file is None:
        return prompt
    if prompt is not None:
        raise UsageError("give --prompt or --template, not both")
    try:
        text = Path(file).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from None
    return text.removesuffix("\n")
