"""The file of a job's results: what it is called where nobody says, and what lies beside it."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Final

ENDING: Final = ".results.jsonl"
_NAMED: Final = 3


def of(file: str, out: str | None) -> Path:
    """The file of results of an input: what was asked for, else one of its name, here."""
    return Path(out or stem(file) + ENDING)


def stem(file: str) -> str:
    """The input's name without what says its format."""
    from agentflow.job.formats.kinds import FORMATS

    if file == "-":
        return "stdin"
    name = PurePath(file).name
    if name.lower().endswith(".gz"):
        name = name[:-3]
    known = {suffix for format in FORMATS for suffix in format.suffixes}
    suffix = PurePath(name).suffix
    return name[: -len(suffix)] if suffix.lower() in known else name


def same(file: str, out: Path) -> bool:
    """Whether the results would be written over their input."""
    try:
        return file != "-" and out.samefile(file)
    except OSError:
        return False


def told(out: Path) -> str:
    """Where the results go, and whose results lie beside them: they are of other jobs."""
    text = f"results go to {out}"
    try:
        there = [path for path in out.parent.glob(f"*{ENDING}") if path.stat().st_size]
    except OSError:
        return text
    others = sorted(path.name for path in there if path.name != out.name)
    if not others:
        return text
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return f"{text}; those of other jobs stay as they are: {', '.join(others[:_NAMED])}{more}"
