"""Which files of a workspace match `collect`, found in bounded time.

The patterns are a stranger's and so is the tree: `**/*/**/*/zz` over a deep one keeps the glob of
pathlib busy for ever, in a thread that nothing ends. Here the tree is walked once, each path is
compared in steps of its length times the pattern's, and the walk ends by itself.
"""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ENTRIES: Final = 20_000
"""Files and folders looked at."""
DEPTH: Final = 100
SECONDS: Final = 5.0

_ANY: Final = "**"
Pattern = tuple[re.Pattern[str] | None, ...]
"""A piece for each name of a path; None stands for any number of folders."""


def matching(folder: Path, patterns: Sequence[str]) -> tuple[list[Path], bool]:
    """The paths that match, in the patterns' order and sorted within; whether all were looked at.

    What cannot be read is passed over, and symbolic links are not followed.
    """
    found: list[list[Path]] = [[] for _ in patterns]
    compiled = [_compiled(pattern) for pattern in patterns]
    until = time.monotonic() + SECONDS
    whole = True
    for number, names in enumerate(_walked(folder)):
        if number >= ENTRIES or len(names) > DEPTH or time.monotonic() > until:
            whole = False
            break
        for pattern, paths in zip(compiled, found, strict=True):
            if pattern is not None and _matches(names, pattern):
                paths.append(folder.joinpath(*names))
    seen = dict.fromkeys(path for paths in found for path in sorted(paths))
    return list(seen), whole


def _walked(folder: Path) -> Iterator[tuple[str, ...]]:
    """Every path below a folder, as its names; the shallow ones first."""
    level: list[tuple[str, ...]] = [()]
    while level:
        deeper: list[tuple[str, ...]] = []
        for names in level:
            try:
                with os.scandir(folder.joinpath(*names)) as entries:
                    inside = sorted(
                        (entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries
                    )
            except OSError:
                continue
            for name, is_folder in inside:
                yield (*names, name)
                if is_folder:
                    deeper.append((*names, name))
        level = deeper


def _compiled(pattern: str) -> Pattern | None:
    """None for a pattern that no path can match: an absolute one, one that leaves the folder."""
    names = [name for name in pattern.split("/") if name not in ("", ".")]
    if pattern.startswith("/") or ".." in names or not names:
        return None
    pieces: list[re.Pattern[str] | None] = []
    for name in names:
        if name == _ANY:
            if not pieces or pieces[-1] is not None:
                pieces.append(None)
        else:
            pieces.append(re.compile(fnmatch.translate(name)))
    return tuple(pieces)


def _matches(names: tuple[str, ...], pattern: Pattern) -> bool:
    """By the places in the pattern that may be reached after each name: never back again."""
    places = _with_skipped({0}, pattern)
    for name in names:
        reached: set[int] = set()
        for place in places:
            if place == len(pattern):
                continue
            piece = pattern[place]
            if piece is None:
                reached.add(place)
            elif piece.match(name):
                reached.add(place + 1)
        places = _with_skipped(reached, pattern)
        if not places:
            return False
    return len(pattern) in places


def _with_skipped(places: set[int], pattern: Pattern) -> set[int]:
    """With those behind a `**` that stands for no folder."""
    more = {place + 1 for place in places if place < len(pattern) and pattern[place] is None}
    return places | more
