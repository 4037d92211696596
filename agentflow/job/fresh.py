"""`--fresh`: the same requests asked anew, under ids that no earlier run has used.

A task without an id is named for its request, so its answer is taken from the log while that has
it. A fresh round adds a word of its own to these ids. The word is noted beside the file of results
before anything is submitted: interrupted, the same command finds it and goes on with what it has
paid for. Once every task has its result the round is done, and the next `--fresh` begins another;
until then, and as long as these results are there, a run without it means the same tasks.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from agentflow.errors import UsageError

_DONE: Final = "done"


class Round:
    """One round of asking; `word` is empty where the ids are those of the requests alone."""

    def __init__(self, results: Path | None, *, wanted: bool) -> None:
        """Without a file of results nothing is remembered, and each wanted round is a new one."""
        self._note = None if results is None else results.with_name(results.name + ".fresh")
        noted, done = self._noted()
        there = results is not None and results.exists()
        if wanted and (done or not noted):
            self.word = secrets.token_hex(4)
        else:
            self.word = noted if wanted or there else ""

    def begin(self) -> None:
        """Remember it; it is on disk when this returns. Raises UsageError."""
        if self._noted()[0] != self.word:
            self._write(self.word)

    def done(self) -> None:
        """Every task has its result: the next round is another. Raises UsageError."""
        if self.word:
            self._write(f"{self.word} {_DONE}")

    def _noted(self) -> tuple[str, bool]:
        """The word of the round before, and whether that is done."""
        if self._note is None:
            return "", False
        try:
            word, _, rest = self._note.read_text("ascii").strip().partition(" ")
        except FileNotFoundError:
            return "", False
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {self._note}: {error}; remove it") from None
        if not word.isalnum() or len(word) > 16:
            raise UsageError(f"{self._note} does not name a round of --fresh; remove it")
        return word, rest == _DONE

    def _write(self, text: str) -> None:
        if self._note is None:
            return
        part = self._note.with_name(self._note.name + ".part")
        try:
            if not self.word:
                self._note.unlink(missing_ok=True)
                return
            with part.open("w", encoding="ascii") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._note)
        except OSError as error:
            raise UsageError(f"cannot write {self._note}: {error.strerror or error}") from None
