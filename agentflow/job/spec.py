"""What is wanted of a job, and what the job tells the front end that wants it."""

from __future__ import annotations

from collections.abc import Container, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from agentflow.config import Connect

if TYPE_CHECKING:
    from agentflow.job.source import Item


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, where, and within which limits.

    Where `connect` names servers the workers are elsewhere, unless `workers` says how many to
    start; where it names none the stack of `store` is used, or one is started on it.
    """

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
    queue: str = "default"
    simulate: bool = False
    connect: Connect = Connect()
    store: str | None = None
    workers: int | None = None
    processes: int | None = None
    concurrency: int = 10
    """Tasks at once in each worker process."""
    app: str | None = None
    kinds: tuple[str, ...] = ()
    max_cost_micro: int | None = None
    """Micro-dollars, earlier runs included, at which nothing more is submitted."""
    retry_failed: bool = False
    cache_days: int | None = None
    """How old an answer may be that is taken from the cache; None: it is not used."""
    served: frozenset[str] = frozenset()
    """Kinds that workers of our own would serve."""


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
    COST_LIMIT = "cost_limit"
    """No more may be spent, or a price is unknown and no limit can hold."""
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

    def stopping(self, grace: float | None) -> None:
        """It was told to stop: running tasks have `grace` seconds, None where they go on."""
