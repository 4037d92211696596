"""What is wanted of a job, and what the job tells the front end that wants it."""

from __future__ import annotations

from collections.abc import Container, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from agentflow.config import Connect
from agentflow.protocol.jobs import Input
from agentflow.rules.routes.clock import NO_LIMITS, Limits

if TYPE_CHECKING:
    from agentflow.job.source import Item


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, where, and within which limits.

    Where `connect` names servers the workers are elsewhere, unless `workers` says how many to
    start; where it names none the stack of `store` is used, or one is started on it.
    """

    id: str
    """The job's id, which its tasks bear as a label; also the queue that only its own workers
    serve."""
    file: str = ""
    """The input, as it is called."""
    input: Input | None = None
    """Where it lies, if it says more than its tasks do."""
    defaults: str = ""
    """Hash of what holds for lines that do not say it."""
    results: Path | None
    """The file of results; one that is there is continued. None: they are printed."""
    append: bool = False
    """Whether the file may hold results of other jobs too."""
    replace: bool = False
    """Whether results of the same requests under other ids make way for new ones."""
    table: Path | None = None
    """A CSV or Parquet file that is made of the results at the end."""
    only: Container[int] | None = None
    """Positions of the tasks to run, from 0; None for all."""
    queue: str | None = None
    """The queue to use; None for the job's own where it has its own workers, else `default`."""
    simulate: bool = False
    connect: Connect = Connect()
    store: str | None = None
    workers: int | None = None
    processes: int | None = None
    concurrency: int = 10
    """Tasks at once in each worker process."""
    app: str | None = None
    kinds: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    """Of the workers that are started, a minute and model family."""
    max_cost_micro: int | None = None
    """Micro-dollars that the job may cost, earlier runs included."""
    retry_failed: bool = False
    cache_days: int | None = None
    """How old an answer may be that is taken from the cache; None: it is not used."""
    again: frozenset[str] = frozenset()
    """Kinds of answers (rules/answers.py) that are asked for again."""
    give_up: float | None = None
    """Seconds after which it ends where nothing goes on without a person; None for never."""
    served: frozenset[str] = frozenset()
    """Kinds that workers of our own would serve."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks that wait, and why: `text` is one line.

    `stuck`: nothing goes on before a person has done something; `remedy` says what.
    """

    count: int
    text: str
    stuck: bool = False
    remedy: str = ""


class Tasks(Protocol):
    """The tasks of a job, in order; iterating begins anew each time."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item]: ...

    def refuse_overdue(self) -> None:
        """Raise InvalidInput for tasks that can never start any more."""


class Ending(StrEnum):
    """Why a job has ended; its tally says how many failed and how many are left."""

    DONE = "done"
    """Every task has its result."""
    GAVE_UP = "gave_up"
    """Nothing went on without a person; the same job started again goes on."""
    COST_LIMIT = "cost_limit"
    """There was no money for a request, whatever came back of what others held."""
    INTERRUPTED = "interrupted"
    """It was told to stop; the same job started again goes on where it was."""


class FrontEnd(Protocol):
    """Whoever wants the job; called from the job's loop, so it must not block."""

    def begin(self) -> None:
        """Tasks are submitted from here on; again after a move to another placement."""

    def end(self) -> None:
        """No more tasks are submitted or waited for here."""

    def update(self) -> None:
        """The tally has changed."""

    def say(self, text: str) -> None:
        """A sentence for who follows the job."""

    def warn(self, text: str) -> None:
        """A sentence that has to be read, also by whoever wanted none."""

    def waits(self, held: Held | None) -> None:
        """What the tasks that are left wait for now, None where nothing keeps them."""

    def stopping(self, grace: float | None) -> None:
        """It was told to stop: running tasks have `grace` seconds, None where they go on."""
