"""From measured memory and CPU to instances and dollars a year. Pure.

The work is fixed, not the number of workers: so many tasks a second, all year. A design then needs
places (by how long it holds one), memory for them, and cores for the CPU of each task; the larger
of the two decides how many instances there are. The document counts memory only.

Memory and CPU of a place grow straight with their number here, from one machine's figures to a
fleet's: every dollar is an extrapolation. Server, master and tokens are in no row.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from bench.compare.comparison import Comparison, Measured

TASKS_PER_S: Final = 500.0
"""1000 tasks of 2.0 s at once."""
LATENCY_S: Final = 2.0
CORES: Final = 2
"""Of an instance; the document names none."""


class Instance(msgspec.Struct, frozen=True):
    """What is rented: memory in GB, cores, dollars a month."""

    name: str
    memory_gb: float
    cores: int
    month_usd: float


DOCUMENT: Final = (
    Instance("the document's, for CLI workers", 4.0, CORES, 30.0),
    Instance("the document's, for SDK workers", 3.5, CORES, 25.0),
)
"""Its 100 instances for $3,000 and $2,500 a month."""


class Need(msgspec.Struct, frozen=True):
    """What the work needs of a design: places in flight, memory in GB, cores."""

    places: float
    memory_gb: float
    cores: float


class Bill(msgspec.Struct, frozen=True):
    """Instances by memory, by CPU and in all, and dollars a year."""

    instance: Instance
    by_memory: int
    by_cpu: int
    year_usd: float

    @property
    def instances(self) -> int:
        """The larger of the two."""
        return max(self.by_memory, self.by_cpu)


def basis(comparison: Comparison, design: str) -> Measured | None:
    """The load that memory and CPU are taken from: the widest of one process, 100 at most."""
    nearest = [comparison.measured(design, in_flight) for in_flight in (100, 20, 10, 3)]
    return next((measured for measured in nearest if measured is not None), None)


def need(comparison: Comparison, design: str, tasks_per_s: float = TASKS_PER_S) -> Need | None:
    """None where the figures for it are missing."""
    wide, alone = basis(comparison, design), comparison.measured(design, 1)
    if wide is None or alone is None or wide.slot_mb is None:
        return None
    places = tasks_per_s * (LATENCY_S + alone.overhead.p50_ms / 1000)
    return Need(places, places * wide.slot_mb / 1000, tasks_per_s * wide.cpu_ms / 1000)


def bill(wanted: Need, instance: Instance) -> Bill:
    """Whole instances, at least one."""
    by_memory = max(1, math.ceil(wanted.memory_gb / instance.memory_gb))
    by_cpu = max(1, math.ceil(wanted.cores / instance.cores))
    return Bill(instance, by_memory, by_cpu, max(by_memory, by_cpu) * instance.month_usd * 12)


def instance_of(design: str, *, runs_cli: bool, own: Instance | None) -> Instance:
    """The user's, else the document's for such a worker."""
    return own or DOCUMENT[0 if runs_cli else 1]
