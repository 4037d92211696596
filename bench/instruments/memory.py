"""Memory of processes: RSS, and PSS, which counts a page shared by n processes as 1/n."""

from __future__ import annotations

from pathlib import Path


def memory_of(pid: int) -> dict[str, float | None]:
    """Megabytes of one process; PSS is None where the system does not tell."""
    return {"rss_mb": _rss(pid), "pss_mb": _pss(pid)}


def _rss(pid: int) -> float | None:
    return _field(Path(f"/proc/{pid}/status"), "VmRSS:")


def _pss(pid: int) -> float | None:
    return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def _field(path: Path, name: str) -> float | None:
    try:
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        return None
    return None
