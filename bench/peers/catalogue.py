"""Which queues are measured, in which settings, and what each of them promises.

`plain` is a queue's own defaults. `tuned` is the best setting that its documentation names and that
keeps its promises; a third one, where there is, gives promises up for speed. What is said of a
promise was read in the source of the pinned version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CORES: Final = 2
"""What defaults that follow the number of cores are compared at; the result names the machine's."""


@dataclass(frozen=True)
class Promise:
    """What stands beside a figure."""

    stored: str
    """Where an accepted task lies, and when it is on disk."""
    ack: str
    """When a task counts as done, and what happens to one whose worker died."""
    repeats: str
    """What a second submission, or a second run, of the same task does."""
    result: str
    """Where a result lies, and how the client hears of it."""


@dataclass(frozen=True)
class Setting:
    """One line of the table."""

    queue: str
    name: str
    broker: str
    """nats, nats-always (synced before each answer), redis, redis-aof."""
    worker: tuple[str, ...]
    """Its worker program, in the bin folder of its environment, and the arguments."""
    slots: int
    """Tasks it can run at once: the floor of the sleep shape follows from it."""
    promise: Promise
    keeps: bool = True
    """Whether tasks and results outlive their sender and their worker."""

    @property
    def key(self) -> str:
        """Its name in results and on the command line."""
        return f"{self.queue}/{self.name}"

    @property
    def module(self) -> str:
        """Its program, of this package."""
        return self.queue.partition("-")[0]

    @property
    def environment(self) -> str | None:
        """The virtual environment under .tools/peers; None is the project's own."""
        return None if self.module == "agentflow" else self.module


_OURS = Promise(
    stored="JetStream file, synced each second",
    ack="after the result is stored; lease 15 s, renewed while it runs",
    repeats="same id runs once; fenced: one result, a zombie's write is refused",
    result="stored 7 days; pushed",
)
_OURS_ALWAYS = Promise(
    stored="JetStream file, synced before each answer",
    ack=_OURS.ack,
    repeats=_OURS.repeats,
    result=_OURS.result,
)
_FASTSTREAM = Promise(
    stored="JetStream file, synced each second",
    ack="after the run; after 30 s runs again beside a slow one",
    repeats="run again",
    result="not stored; sent to the waiting client alone",
)
_CORE = Promise(
    stored="nowhere",
    ack="never: a dead worker loses the task",
    repeats="run again",
    result="not stored; sent to the waiting client alone",
)
_TASKIQ_NATS = Promise(
    stored="JetStream file, synced each second",
    ack="after the result is saved; after 30 s runs again beside a slow one",
    repeats="run again, last result counts",
    result="NATS object store, for ever; polled, at the cost of one of 1,000 consumers a look",
)
_TASKIQ_BOTH = Promise(
    stored=_TASKIQ_NATS.stored,
    ack=_TASKIQ_NATS.ack,
    repeats=_TASKIQ_NATS.repeats,
    result="Redis, for ever; polled",
)
_REDIS = "Redis memory, snapshot each minute at most"
_TASKIQ_REDIS = Promise(
    stored=_REDIS,
    ack="after the result is saved; after 10 min runs again beside a slow one",
    repeats="run again, last result counts",
    result="Redis; polled",
)
_TASKIQ_AOF = Promise(
    stored="Redis append-only file, synced each second",
    ack=_TASKIQ_REDIS.ack,
    repeats=_TASKIQ_REDIS.repeats,
    result=_TASKIQ_REDIS.result,
)
_TASKIQ_LIST = Promise(
    stored=_REDIS,
    ack="when taken: a dead worker loses the task",
    repeats="run again, last result counts",
    result="Redis; polled",
)
_ARQ = Promise(
    stored=_REDIS,
    ack="after the result is saved; after the job's timeout (300 s) runs again",
    repeats="same id not taken while queued or kept",
    result="Redis, 1 h; polled",
)
_DRAMATIQ = Promise(
    stored=_REDIS,
    ack="after the run; after 60 s without a heartbeat of its process runs again",
    repeats="run again, last result counts",
    result="Redis, 10 min; a blocking read each",
)
_CELERY = Promise(
    stored=_REDIS,
    ack="when taken: a dead worker loses the task",
    repeats="run again, last result counts",
    result="Redis, 1 day; pushed",
)
_CELERY_LATE = Promise(
    stored=_REDIS,
    ack="after the run; after 1 h runs again beside a slow one",
    repeats=_CELERY.repeats,
    result=_CELERY.result,
)

_AGENTFLOW = ("agentflow", "worker", "bench.peers.agentflow:app", "--nats", "{url}")
_TASKIQ = ("taskiq", "worker", "bench.peers.taskiq:broker")
_TASKIQ_TUNED = (*_TASKIQ, "--workers", "1", "--max-async-tasks", "1200", "--log-level", "WARNING")
_FAST = ("faststream", "run", "bench.peers.faststream:app")
_CELERY_WORKER = ("celery", "--app", "bench.peers.celery:app", "worker")
_THREADS = ("--pool", "threads", "--concurrency", "100", "--without-gossip", "--without-mingle")

SETTINGS: Final = (
    Setting("agentflow", "plain", "nats", _AGENTFLOW, 10, _OURS),
    Setting("agentflow", "tuned", "nats", (*_AGENTFLOW, "-c", "1200"), 1200, _OURS),
    Setting("agentflow", "always", "nats-always", (*_AGENTFLOW, "-c", "1200"), 1200, _OURS_ALWAYS),
    Setting("faststream-nats", "plain", "nats", _FAST, 1, _FASTSTREAM, keeps=False),
    Setting("faststream-nats", "tuned", "nats", _FAST, 1200, _FASTSTREAM, keeps=False),
    Setting("faststream-nats", "core", "nats", _FAST, 1200, _CORE, keeps=False),
    Setting("taskiq-nats", "plain", "nats", _TASKIQ, 200, _TASKIQ_NATS),
    Setting("taskiq-nats", "tuned", "nats+redis", _TASKIQ_TUNED, 1200, _TASKIQ_BOTH),
    Setting("taskiq-redis", "plain", "redis", _TASKIQ, 200, _TASKIQ_REDIS),
    Setting("taskiq-redis", "tuned", "redis", _TASKIQ_TUNED, 1200, _TASKIQ_REDIS),
    Setting("taskiq-redis", "aof", "redis-aof", _TASKIQ_TUNED, 1200, _TASKIQ_AOF),
    Setting("taskiq-redis", "list", "redis", _TASKIQ_TUNED, 1200, _TASKIQ_LIST, keeps=False),
    Setting("arq", "plain", "redis", ("arq", "bench.peers.arq.WorkerSettings"), 10, _ARQ),
    Setting("arq", "tuned", "redis", ("arq", "bench.peers.arq.WorkerSettings"), 1200, _ARQ),
    Setting("dramatiq", "plain", "redis", ("dramatiq", "bench.peers.dramatiq"), 16, _DRAMATIQ),
    Setting(
        "dramatiq",
        "tuned",
        "redis",
        ("dramatiq", "bench.peers.dramatiq", "--processes", "2", "--threads", "100"),
        200,
        _DRAMATIQ,
    ),
    Setting("celery", "plain", "redis", _CELERY_WORKER, CORES, _CELERY, keeps=False),
    Setting("celery", "tuned", "redis", (*_CELERY_WORKER, *_THREADS), 100, _CELERY, keeps=False),
    Setting("celery", "late", "redis", (*_CELERY_WORKER, *_THREADS), 100, _CELERY_LATE),
)

UNMEASURED: Final = {
    "celery with RabbitMQ": "needs RabbitMQ and Erlang, which no Python package brings",
}


def chosen(only: tuple[str, ...]) -> list[Setting]:
    """The settings whose key begins with one of `only`, or all. Raises ValueError for no match."""
    for word in only:
        if not any(setting.key.startswith(word) for setting in SETTINGS):
            known = ", ".join(setting.key for setting in SETTINGS)
            raise ValueError(f"nothing measured is called {word!r}; there are {known}")
    return [
        setting
        for setting in SETTINGS
        if not only or any(setting.key.startswith(word) for word in only)
    ]
