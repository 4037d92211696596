"""The figures of a job, earlier runs on the same file of results included. No I/O."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Final

import msgspec

from agentflow.protocol.record import Repair, State, Usage
from agentflow.rules.answers import flaw_of
from agentflow.rules.records import add_repair, micro
from agentflow.rules.routes import prices as pricing
from agentflow.rules.routes.prices import Detail, Prices
from agentflow.views.failures import fingerprint
from agentflow.views.ledger import Line

LINES_NAMED: Final = 3


class Failures(msgspec.Struct):
    """Failures of one kind: how many, what one of them says, and the first lines they are of."""

    reason: str
    message: str
    count: int = 0
    lines: list[int] = []


class Tally:
    """The figures of a job."""

    def __init__(self, total: int, *, simulated: bool, prices: Prices | None = None) -> None:
        self.total = total
        self.simulated = simulated
        self._prices = prices
        self.before = 0
        """Tasks that had a result before this run."""
        self.submitted = 0
        self._own: set[str] = set()
        """Those of them that have no result yet."""
        self.answered = 0
        """Tasks that the log had an answer to when this run came to them."""
        self.spared_micro = 0
        """What these answers cost, which this run did not pay."""
        self.spared_unknown = False
        """Whether that is more, by what has no price."""
        self.running: set[str] = set()
        self.states: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.usage = Usage()
        self.cost_micro = 0
        self.saved_micro = 0
        """What batches saved of the price of live requests."""
        self.batched = 0
        self.read_micro = 0
        """What the API's prompt cache saved of the price of plain input, writing it included."""
        self.unpriced: set[str] = set()
        """Models whose price is unknown."""
        self.why_unpriced: set[str] = set()
        """Sentences that say why."""
        self.unknown_micro = 0
        """What counts against the limit for requests whose cost nobody knows."""
        self.retried = 0
        self.repaired = 0
        """Tasks whose answers were asked again because they broke their schema."""
        self.repair = Repair()
        """What that took, of usage and cost."""
        self.cached = 0
        """Answers of the cache, and what they cost when they were asked."""
        self.cached_micro = 0
        self.flaws: Counter[str] = Counter()
        """Answers that are none, by kind (rules/answers.py)."""
        self._failures: dict[str, Failures] = {}
        self.latencies: list[float] = []
        self.began = time.monotonic()
        self.seconds = 0.0

    @property
    def done(self) -> int:
        """Tasks with a result of any kind, earlier runs included."""
        return sum(self.states.values())

    @property
    def failed(self) -> int:
        """Tasks that ended without success."""
        return self.states[State.FAILED] + self.states[State.CANCELLED]

    def sent(self, task_id: str) -> None:
        """Count a task that this run has put into the queue."""
        self.submitted += 1
        self._own.add(task_id)

    def add(self, line: Line, *, before: bool = False, found: bool = False) -> None:
        """Count a result; `before` for one of an earlier run, `found` where the log had it."""
        own = line.id in self._own
        self._own.discard(line.id)
        self.states[line.state] += 1
        self.running.discard(line.id)
        if line.state != State.SUCCEEDED:
            self._add_failure(line)
        if (flaw := flaw_of(line)) is not None:
            self.flaws[flaw] += 1
        self.repaired += line.repair is not None
        self.repair = add_repair(self.repair, line.repair) or self.repair
        self.usage += line.usage
        if line.cost_usd is None:
            self.unpriced.add(line.model or "unknown")
            self.why_unpriced.add(line.unpriced or f"no price for {line.model or 'unknown'}")
        else:
            self.cost_micro += micro(line.cost_usd)
        self.saved_micro += micro(line.saved_usd)
        batched = (line.request_id or "").startswith("msgbatch_")
        self.batched += batched
        if self._prices is not None and line.usage.cached:
            self.read_micro += pricing.saved_by_caching(
                line.model or "", line.usage, self._prices, Detail(batch=batched)
            )
        if before:
            self.before += 1
            return
        if line.cached is not None:
            self.cached += 1
            return
        if found and not own and line.state == State.SUCCEEDED:
            self.answered += 1
            self.spared_micro += micro(line.cost_usd or 0)
            self.spared_unknown |= line.cost_usd is None
            return  # how long that took, or how often it was tried, says nothing of this run
        self.retried += line.attempts > 1
        submitted, ended = line.timings.submitted, line.timings.ended
        if submitted is not None and ended is not None:
            self.latencies.append(max(0.0, (ended - submitted).total_seconds()))

    def _add_failure(self, line: Line) -> None:
        reason = line.reason or line.state
        self.reasons[reason] += 1
        message = line.error.message if line.error else ""
        key = fingerprint(reason, line.error).key
        group = self._failures.setdefault(key, Failures(reason, message))
        group.count += 1
        group.lines = sorted([*group.lines, line.line])[:LINES_NAMED]

    @property
    def failures(self) -> list[Failures]:
        """What failed, by what its messages have in common, the most frequent first."""
        return sorted(self._failures.values(), key=lambda group: -group.count)

    def finish(self) -> None:
        """Stop the clock."""
        self.seconds = time.monotonic() - self.began

    @property
    def cost_text(self) -> str:
        """Dollars as a person reads them; marked where a price is unknown."""
        text = dollars(self.cost_micro)
        return f"{text} + unknown" if self.unpriced else text

    @property
    def spared_text(self) -> str:
        """Dollars that this run did not pay, as `cost_text`."""
        return dollars(self.spared_micro) + (" + unknown" if self.spared_unknown else "")

    def percentile(self, share: float) -> float | None:
        """The latency below which this share of the run's tasks stayed, in seconds."""
        if not self.latencies:
            return None
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def as_json(self) -> dict[str, Any]:
        """The summary for programs."""
        return {
            "tasks": self.total,
            "succeeded": self.states[State.SUCCEEDED],
            "failed": self.states[State.FAILED],
            "cancelled": self.states[State.CANCELLED],
            "not_run": self.total - self.done,
            "had_results_before": self.before,
            "answered_from_before": self.answered,
            "not_paid_usd": None
            if self.spared_unknown
            else (self.spared_micro + self.cached_micro) / 1_000_000,
            "reasons": dict(self.reasons),
            "answers": dict(self.flaws),
            "failures": msgspec.to_builtins(self.failures),
            "from_cache": self.cached,
            "repaired": self.repaired,
            "repair": msgspec.to_builtins(self.repair),
            "retried": self.retried,
            "usage": msgspec.to_builtins(self.usage),
            "cost_usd": None if self.unpriced else self.cost_micro / 1_000_000,
            "saved_usd": self.saved_micro / 1_000_000,
            "batched": self.batched,
            "saved_by_prompt_cache_usd": self.read_micro / 1_000_000,
            "unpriced_models": sorted(self.unpriced),
            "unpriced": sorted(self.why_unpriced),
            "held_for_unknown_usd": self.unknown_micro / 1_000_000,
            "seconds": round(self.seconds, 3),
            "latency_p50_s": self.percentile(0.50),
            "latency_p99_s": self.percentile(0.99),
            "simulated": self.simulated,
        }


def dollars(micro_usd: int) -> str:
    """Micro-USD as dollars, with more places the smaller the sum."""
    value = micro_usd / 1_000_000
    return f"${value:,.2f}" if value >= 100 else f"${value:,.4f}"
