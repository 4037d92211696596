"""What `bench compare` writes, and `bench report` reads: the JSON of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from bench.compare.ladders import Load
from bench.compare.rows.design import Size

FOLDER: Final = Path(__file__).parents[1] / "results"
VERSION: Final = 1


class Overhead(msgspec.Struct, frozen=True):
    """Milliseconds of a task beyond its answer's latency, seen by the client."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


class Memory(msgspec.Struct, frozen=True):
    """PSS in MB of the worker and all its processes: before, and while tasks ran."""

    idle_mb: float | None
    mean_mb: float | None
    peak_mb: float | None
    looks: int
    processes: int


class Trial(msgspec.Struct, frozen=True):
    """One design under one load. `whole` is the number of tasks where not all of them are run."""

    design: str
    load: Load
    processes: int = 1
    whole: int | None = None

    @property
    def slots(self) -> int:
        """Of each process, so that all places can be taken."""
        return max(1, -(-self.load.in_flight // self.processes))

    def __str__(self) -> str:
        several = f", {self.processes} processes" if self.processes > 1 else ""
        return f"{self.design}: {self.load}{several}"


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A trial's figures. CPU is in seconds over all rounds: `cpu_s` of the worker and all its
    processes, ended ones included, `beside_s` of the system round it."""

    trial: Trial
    makespans_s: list[float]
    floors_s: list[float]
    overhead: Overhead
    cpu_s: float
    beside_s: dict[str, float]
    memory: Memory
    started_s: float
    errors: int
    problem: str = ""
    requests: int = 0
    input_tokens: int = 0
    load_average: float = 0.0

    @property
    def tasks(self) -> int:
        """Of all rounds."""
        return self.trial.load.tasks * self.trial.load.rounds

    @property
    def over_floor(self) -> float:
        """The median round's time, divided by what the answers alone take."""
        ratios = sorted(
            made / least for made, least in zip(self.makespans_s, self.floors_s, strict=True)
        )
        return ratios[len(ratios) // 2]

    @property
    def makespan_s(self) -> float:
        """The median round's seconds."""
        return sorted(self.makespans_s)[len(self.makespans_s) // 2]

    @property
    def cpu_ms(self) -> float:
        """CPU of the worker a task."""
        return self.cpu_s / self.tasks * 1000

    @property
    def slot_mb(self) -> float | None:
        """Memory for each task in flight, the worker's own included."""
        peak = self.memory.peak_mb
        return None if peak is None else peak / self.trial.load.in_flight


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A design as it was here; `missing` says why nothing was measured."""

    name: str
    title: str
    text: str
    runs_cli: bool
    versions: dict[str, str] = {}
    size: Size | None = None
    missing: str | None = None


class Failed(msgspec.Struct, frozen=True):
    """A trial that gave no figures, and why."""

    trial: Trial
    reason: str


class Renewal(msgspec.Struct, frozen=True):
    """Designs that were measured again later than the others, and where and when."""

    designs: list[str]
    machine: dict[str, Any]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run; `renewals` are parts of later ones that took the place of its own."""

    version: int = VERSION
    simulated: bool = True
    ladder: str
    seed: int
    machine: dict[str, Any]
    busy: bool
    image: tuple[float | None, str]
    seconds: float
    rows: list[Row]
    trials: list[Measured]
    failed: list[Failed] = []
    renewals: list[Renewal] = []

    def row(self, name: str) -> Row | None:
        """The design of that name."""
        return next((row for row in self.rows if row.name == name), None)

    def measured(
        self,
        design: str,
        in_flight: int | None = None,
        *,
        processes: int = 1,
        scattered: bool = False,
    ) -> Measured | None:
        """A design's figures at a load, constant latency unless `scattered`; None without."""
        for measured in self.trials:
            trial = measured.trial
            if (
                trial.design == design
                and trial.processes == processes
                and in_flight in (None, trial.load.in_flight)
                and scattered == (trial.load.latency.p99 is not None)
            ):
                return measured
        return None

    @property
    def constant(self) -> list[Measured]:
        """Those under a constant latency."""
        return [measured for measured in self.trials if measured.trial.load.latency.p99 is None]

    @property
    def common_width(self) -> int:
        """The widest load that designs with a CLI have too: ten in flight, less in a smaller
        ladder."""
        narrow = {row.name for row in self.rows if row.runs_cli and not row.missing}
        single = [measured.trial for measured in self.trials if measured.trial.processes == 1]
        widths = [trial.load.in_flight for trial in single if trial.design in narrow]
        return max(widths or [min(trial.load.in_flight for trial in single)] if single else [10])


class Unlike(ValueError):
    """Two comparisons that are not of one kind."""


def renewed(kept: Comparison, newer: Comparison) -> Comparison:
    """A comparison with a newer one's designs in place of its own. Raises Unlike."""
    for name in ("ladder", "seed", "version"):
        if getattr(kept, name) != getattr(newer, name):
            raise Unlike(f"one has {name} {getattr(kept, name)}, the other {getattr(newer, name)}")
    for name in ("cpu", "cores"):
        if kept.machine[name] != newer.machine[name]:
            raise Unlike(f"the kept one was measured on another machine ({kept.machine['cpu']})")
    names = [row.name for row in newer.rows]
    earlier = [
        Renewal(rest, renewal.machine)
        for renewal in kept.renewals
        if (rest := [name for name in renewal.designs if name not in names])
    ]
    trials = [one for one in kept.trials if one.trial.design not in names] + newer.trials
    order = [row.name for row in kept.rows]
    return msgspec.structs.replace(
        kept,
        rows=[newer.row(row.name) or row for row in kept.rows],
        trials=sorted(trials, key=lambda one: order.index(one.trial.design)),
        failed=[one for one in kept.failed if one.trial.design not in names] + newer.failed,
        renewals=[*earlier, Renewal(names, newer.machine)],
        busy=kept.busy or newer.busy,
    )


def path(ladder: str) -> Path:
    """Where the results of a ladder are: only the full one's are kept in the repository."""
    return FOLDER / ("compare.json" if ladder == "full" else f"compare-{ladder}.json")


def write(comparison: Comparison, to: Path) -> None:
    """As JSON that a person can read."""
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n")


def read(file: Path) -> Comparison:
    """Raises OSError, msgspec.ValidationError."""
    return msgspec.json.decode(file.read_bytes(), type=Comparison)
