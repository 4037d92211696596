"""The figures of a job, earlier runs on the same file of results included. No I/O."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Final

import msgspec

from agentflow.protocol.record import State, Usage
from agentflow.rules.records import micro
from agentflow.views.ledger import Line

CUT: Final = frozenset({"max_tokens", "model_context_window_exceeded"})


class Tally:
    """The figures of a job."""

    def __init__(self, total: int, *, simulated: bool) -> None:
        self.total = total
        self.simulated = simulated
        self.before = 0
        """Tasks that had a result before this run."""
        self.submitted = 0
        self.running: set[str] = set()
        self.states: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.usage = Usage()
        self.cost_micro = 0
        self.unpriced: set[str] = set()
        """Models whose price is unknown."""
        self.why_unpriced: set[str] = set()
        """Sentences that say why."""
        self.unknown_micro = 0
        """What counts against the limit for requests whose cost nobody knows."""
        self.retried = 0
        self.cut = 0
        self.refused = 0
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

    def add(self, line: Line, *, before: bool = False) -> None:
        """Count a result; `before` for one of an earlier run."""
        self.states[line.state] += 1
        self.running.discard(line.id)
        if line.state != State.SUCCEEDED:
            self.reasons[line.reason or line.state] += 1
        self.cut += line.stop_reason in CUT
        self.refused += line.stop_reason == "refusal"
        self.usage += line.usage
        if line.cost_usd is None:
            self.unpriced.add(line.model or "unknown")
            self.why_unpriced.add(line.unpriced or f"no price for {line.model or 'unknown'}")
        else:
            self.cost_micro += micro(line.cost_usd)
        if before:
            self.before += 1
            return
        self.retried += line.attempts > 1
        submitted, ended = line.timings.submitted, line.timings.ended
        if submitted is not None and ended is not None:
            self.latencies.append(max(0.0, (ended - submitted).total_seconds()))

    def finish(self) -> None:
        """Stop the clock."""
        self.seconds = time.monotonic() - self.began

    @property
    def cost_text(self) -> str:
        """Dollars as a person reads them; marked where a price is unknown."""
        text = dollars(self.cost_micro)
        return f"{text} + unknown" if self.unpriced else text

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
            "reasons": dict(self.reasons),
            "cut_by_max_tokens": self.cut,
            "refused": self.refused,
            "retried": self.retried,
            "usage": msgspec.to_builtins(self.usage),
            "cost_usd": None if self.unpriced else self.cost_micro / 1_000_000,
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
