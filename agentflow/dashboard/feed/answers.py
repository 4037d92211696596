"""What a view asks for besides the feed: logs, prompts, why a task waits, dead letters.

An answer takes the place of the one before; an error stands where the answer would, so that a view
never waits for what does not come. Logs of the tasks that were looked at last are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Final, TypeVar

from agentflow.client import Client
from agentflow.client.operate.deadletters import DeadLetter
from agentflow.dashboard.reader.effects import Fetch
from agentflow.dashboard.reader.reader import Reader
from agentflow.dashboard.reader.scene import Letter
from agentflow.errors import AgentFlowError

T = TypeVar("T")

LOGS: Final = 16
"""Tasks whose logs and prompts are kept; each may have megabytes."""
WHYS: Final = 100
LETTERS: Final = 20_000
"""Dead letters that are read; the newest stay."""
TOLD_EVERY: Final = 500
"""Letters after which those so far are shown."""


class Answering:
    """Reads what one dashboard asks for. `touch` asks for another frame.

    Of several same questions at once only the last is answered.
    """

    def __init__(
        self,
        client: Client,
        reader: Reader,
        now: Callable[[], float],
        touch: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._reader = reader
        self._now = now
        self._touch = touch
        self._asked: dict[tuple[str, str], int] = {}
        self._count = 0

    async def fetch(self, effect: Fetch) -> None:
        """Read it and fold it in; an error becomes a notice."""
        key = (effect.what, effect.id)
        self._count += 1
        mine = self._asked[key] = self._count
        answers = self._reader.answers
        try:
            match effect.what:
                case "log":
                    await self._log(effect.id, lambda: self._asked.get(key) == mine)
                case "why":
                    answer = await self._client.why(effect.id)
                    answers.whys[effect.id] = f"{answer.state}: {answer.text}"
                    _trim(answers.whys, WHYS)
                case "letters":
                    await self._letters(lambda: self._asked.get(key) == mine)
            answers.problems.pop(key, None)
        except AgentFlowError as error:
            answers.problems[key] = str(error)
            if effect.what == "why":
                answers.whys.pop(effect.id, None)  # the old one would look like the answer
            self._reader.tell(str(error), self._now(), "warn")
        finally:
            if self._asked.get(key) == mine:
                del self._asked[key]
            self._touch()

    async def _log(self, task_id: str, latest: Callable[[], bool]) -> None:
        answers, row = self._reader.answers, self._reader.store.rows.get(task_id)
        log = await self._client.history.log(task_id)
        # A message is what it is, and may have megabytes: once is enough.
        body = answers.prompts.get(task_id)
        if body is None:
            message = row.message if row is not None else ""
            body = await self._client.prompt(task_id, message=message)
        if not latest():
            return
        for kept in (answers.logs, answers.prompts):
            kept.pop(task_id, None)  # to the end of the order
        answers.logs[task_id], answers.prompts[task_id] = log, body
        _trim(answers.logs, LOGS)
        _trim(answers.prompts, LOGS)

    async def _letters(self, latest: Callable[[], bool]) -> None:
        kept: list[Letter] = []
        read = 0
        answers = self._reader.answers
        first = answers.letters is None
        async with aclosing(self._client.dead.letters()) as letters:
            async for letter in letters:
                kept.append(_letter(letter))
                read += 1
                if len(kept) > 2 * LETTERS:
                    del kept[:-LETTERS]
                if not latest():
                    return
                # The first time what is there is shown at once; later the old ones stand till then.
                if first and read % TOLD_EVERY == 0:
                    answers.letters = kept[-LETTERS:]
                    self._touch()
        answers.letters = kept[-LETTERS:]


def _letter(letter: DeadLetter) -> Letter:
    error = letter.error
    status = f" {error.status}" if error.status is not None else ""
    return Letter(
        id=letter.id,
        queue=letter.queue,
        kind=letter.kind,
        reason=letter.reason,
        error=f"{error.type}{status}: {error.message}",
        fingerprint=letter.fingerprint,
        attempts=letter.attempts,
        at=letter.time.timestamp(),
        labels=letter.labels,
        truncated=letter.truncated,
    )


def _trim(kept: dict[str, T], most: int) -> None:
    while len(kept) > most:
        del kept[next(iter(kept))]
