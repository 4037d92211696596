"""Kind `claude-cli`: Claude Code as a child process, in a folder of the task's own.

Where things are: arguments.py what a task may say, workspace.py its folder, process.py and guard.py
the process, isolation.py, outlet.py and inside.py the walls round it, result.py what its output
means. What a user needs is in docs/claude-cli.md.

Who tries again? What has cost nothing yet is tried again by the task's log, as for kind `claude`:
Claude Code announces that it will repeat a request, and if no answer has come whole by then it is
ended, and the retry table has the status and what retry-after said. Later, to begin anew would pay
for all turns again, so Claude Code repeats the request itself.

This module does not import anthropic: a worker that runs only this kind does without its 74 MB.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from agentflow import hidden
from agentflow.config import store_dir
from agentflow.errors import ClaudeMissing, InvalidTask, KeyMissing, UsageError
from agentflow.handlers import price_file
from agentflow.handlers.claude.request import DEFAULT_MODEL
from agentflow.handlers.claude_cli.arguments import PROMPT, Request, build, family_of
from agentflow.handlers.claude_cli.isolation import SETTING, Isolation
from agentflow.handlers.claude_cli.outlet import Outlet
from agentflow.handlers.claude_cli.process import Process
from agentflow.handlers.claude_cli.result import Conversation
from agentflow.handlers.claude_cli.workspace import Workspace, Workspaces
from agentflow.handlers.contract import AttemptFailed, Outcome, Run
from agentflow.handlers.credential import checked_pool, pool_of
from agentflow.protocol import limits
from agentflow.protocol.record import Failure
from agentflow.protocol.task import Defaults, Task
from agentflow.rules.records import micro
from agentflow.rules.retry import Signal
from agentflow.rules.routes.prices import Cost, Prices
from agentflow.rules.routes.route import Route

_log = logging.getLogger(__name__)

LINGER: Final = 10.0
"""Seconds of silence after a result; what an agent left running may keep Claude Code for ever."""
RETRIES: Final = "4"
"""Of one request, by Claude Code itself; by default it goes on for minutes."""

_OUTPUT: Final = (
    *("-p", "--output-format", "stream-json", "--verbose"),
    "--include-partial-messages",
)
_KEYS: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_ELSEWHERE: Final = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
_QUIET: Final = {
    # Without these it asks hosts elsewhere, and offline it waits for them.
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_BUG_COMMAND": "1",
}
# The worker's own secrets, the marks of a Claude Code around us, and where the user's settings are.
_HIDDEN: Final = (
    *("AGENTFLOW_", "NATS_", "XDG_"),
    *("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_"),
)
_SIMULATED: Final = "req_sim"
_USAGE: Final = ("error: ", "Error: ", "--")
"""How a complaint about its arguments begins."""
_SYSTEM: Final = re.compile(r"\bE[A-Z]{3,}\b")
"""ENOSPC and the like: no fault of the task's."""


class ClaudeCliHandler:
    """Runs tasks of kind `claude-cli`. Call `start` before the first and `close` after the last.

    `environ` says all else: AGENTFLOW_CLAUDE (the program), AGENTFLOW_WORKSPACES (the folder),
    AGENTFLOW_WORKSPACES_KEEP, AGENTFLOW_CLAUDE_CLI_CONCURRENCY, AGENTFLOW_POOL, and the key.
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, *, prices: Prices | None = None
    ) -> None:
        self._environ = dict(environ)
        self._prices = prices
        self._slots = asyncio.Semaphore(_concurrency(environ))
        root = environ.get("AGENTFLOW_WORKSPACES")
        self._workspaces = Workspaces(
            Path(root).expanduser() if root else store_dir(environ=environ) / "workspaces"
        )
        self._keep = environ.get("AGENTFLOW_WORKSPACES_KEEP", "") not in ("", "0")
        self._clearing: set[asyncio.Task[None]] = set()
        key = next((environ[name] for name in _KEYS if environ.get(name)), None)
        self._has_key = key is not None or any(environ.get(name) for name in _ELSEWHERE)
        self._isolation: Isolation | None = None
        self._outlet = _outlet(environ)
        self._secret = key if key and len(key) >= 12 else None
        self.pool = checked_pool(environ.get("AGENTFLOW_POOL") or None) or pool_of(key)

    @property
    def defaults(self) -> Defaults:
        """An agent takes its time, and a second start pays for all of it again."""
        return Defaults(timeout=1800.0, max_attempts=3)

    async def start(self) -> None:
        """Read prices, make the folders. Raises ClaudeMissing, KeyMissing, StackError."""
        program = _program(self._environ)
        if program is None:
            raise ClaudeMissing(_missing(self._environ))
        if not self._has_key:
            raise KeyMissing(
                "Claude Code has no key here: set ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or "
                "CLAUDE_CODE_OAUTH_TOKEN, or say CLAUDE_CODE_USE_BEDROCK=1 (or _VERTEX, _FOUNDRY)"
            )
        if self._outlet is not None:
            self._isolation = await asyncio.to_thread(Isolation, self._environ, program)
        hidden.hide()
        self._prices = self._prices or price_file.load()
        self._workspaces.open()
        self._clear(self._workspaces.tidy)

    async def close(self) -> None:
        """Wait for folders that are being removed."""
        if self._clearing:
            await asyncio.wait(self._clearing)

    def route(self, task: Task) -> Route:
        """The pool, and the family of the model that a task would ask first."""
        return Route(self.pool, family_of(task.model or DEFAULT_MODEL))

    def most(self, task: Task) -> Cost:
        """What a task may cost: Claude Code keeps to the budget it is given. Raises InvalidTask."""
        budget = build(task).params.max_budget_usd
        if budget is None:
            return Cost(
                None, "a task of kind claude-cli has no bound without params.max_budget_usd"
            )
        return Cost(micro(budget))

    async def __call__(self, run: Run) -> Outcome:
        """One run of Claude Code. Raises InvalidTask and AttemptFailed."""
        params = build(run.task).params  # so that what is wrong waits for nothing
        if params.add_dirs and self._isolation is not None:
            raise InvalidTask(
                f"task {run.task.id}: params.add_dirs: runs are isolated here ({SETTING}), and see "
                "no folder of the machine; give files"
            )
        async with self._workspaces.use(run.task.id, params.workspace) as workspace, self._slots:
            request = build(run.task, str(workspace.home))
            workspace.prepare(request.private, params.files)
            async with self._way_out() as outlet:
                outcome = await self._ask(run, request, workspace, outlet)
            value = outcome.value
            value["files"], left_out = await asyncio.to_thread(workspace.collect, params.collect)
            if left_out:
                value["files_left_out"] = left_out
            value["workspace"] = None
            if params.keep or params.workspace or self._keep:
                value["workspace"] = str(workspace.work)
            else:
                self._clear(self._workspaces.throw_away(workspace))
        return outcome

    @asynccontextmanager
    async def _way_out(self) -> AsyncIterator[Path | None]:
        """Of an isolated run: the folder with its outlet; others have the worker's network."""
        if self._outlet is None:
            yield None
        else:
            async with self._outlet.opened() as folder:
                yield folder

    def _command(
        self, program: str, task: Task, request: Request, workspace: Workspace, outlet: Path | None
    ) -> list[str]:
        command = [program, *_OUTPUT, *request.arguments, *_session(task, request, workspace)]
        if outlet is None or self._isolation is None or self._outlet is None:
            return command
        return self._isolation.wrapped(
            command,
            workspace=workspace.folder,
            work=workspace.work,
            outlet=outlet,
            variable=self._outlet.variable,
        )

    async def _ask(
        self, run: Run, request: Request, workspace: Workspace, outlet: Path | None
    ) -> Outcome:
        program = _program(self._environ)
        if program is None:
            failure = Failure(type="claude_cli_missing", message=_missing(self._environ))
            raise AttemptFailed(failure, Signal(exception="handler"))
        conversation = Conversation()
        run.model = request.model
        began = time.monotonic()
        process = Process()
        try:
            await process.start(
                self._command(program, run.task, request, workspace, outlet),
                folder=workspace.work,
                prompt=workspace.home / PROMPT,
                environment=self._environment(run.task, workspace),
            )
        except OSError as error:
            failure = Failure(type="claude_cli_missing", message=f"it cannot be started: {error}")
            raise AttemptFailed(failure, Signal(exception="handler")) from error
        status = 0
        try:
            if await self._listen(run, conversation, process, began):
                status = await process.wait()
        finally:
            # Whatever happened, cancellation too; what was spent is told in any case.
            try:
                await process.end()
            finally:
                self._account(run, conversation)
        if conversation.result is None:
            if _is_refusal(conversation):
                raise self._clean(conversation.refused())
            raise self._silent(run.task, status, process.errors, conversation)
        try:
            return conversation.outcome()
        except AttemptFailed as failed:
            raise self._clean(failed) from None

    async def _listen(
        self, run: Run, conversation: Conversation, process: Process, began: float
    ) -> bool:
        """Follow the conversation; False to end it: all is said, or its first request refused."""
        clock = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                async for line in process.lines():
                    text = conversation.take(line)
                    if text:
                        if run.first_token_s is None:
                            run.first_token_s = time.monotonic() - began
                        run.emit(text)
                    elif b'"message_' in line:
                        self._account(run, conversation)
                    if conversation.result is not None:
                        limit.reschedule(clock.time() + LINGER)
                    elif _is_refusal(conversation):
                        return False
        except TimeoutError:
            return False
        return True

    def _account(self, run: Run, conversation: Conversation) -> None:
        assert self._prices is not None
        run.usage, run.cost_micro = conversation.spent(self._prices)
        run.model = conversation.model or run.model
        run.request_id = conversation.request_id
        simulated = (conversation.request_id or "").startswith(_SIMULATED)
        run.simulated = simulated or "AGENTFLOW_SIMULATED" in self._environ

    def _environment(self, task: Task, workspace: Workspace) -> dict[str, str]:
        kept = {
            name: value for name, value in self._environ.items() if not name.startswith(_HIDDEN)
        }
        if self._outlet is not None:
            # Its own loopback is all that there is, and no proxy but that of the outlet.
            kept = {name: text for name, text in kept.items() if not name.lower().endswith("proxy")}
            kept["NO_PROXY"] = "" if self._outlet.encrypted else "127.0.0.1"
        kept.setdefault("CLAUDE_CODE_MAX_RETRIES", RETRIES)
        if task.max_tokens is not None:
            kept["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(task.max_tokens)
        return {
            **kept,
            **_QUIET,
            "HOME": str(workspace.home),
            "CLAUDE_CONFIG_DIR": str(workspace.config),
            "CLAUDE_CODE_TMPDIR": str(workspace.scratch),
        }

    def _silent(
        self, task: Task, status: int, errors: str, conversation: Conversation
    ) -> Exception:
        """For an end without a result, whatever the exit status says."""
        said = self._without_secret(errors)
        complains = said.startswith(_USAGE) and not _SYSTEM.search(said)
        if complains and status == 1 and not conversation.session_id:
            return InvalidTask(
                f"task {task.id}: Claude Code refuses it: {said[:1000]}",
                reason="claude_cli_refused",
            )
        text = f"Claude Code ended without a result (exit status {status})"
        failure = Failure(
            type="claude_cli_broken",
            message=f"{text}: {said}"[: limits.ERROR_TEXT] if said else text,
        )
        return AttemptFailed(failure, Signal(exception="broken_json"))

    def _clean(self, failed: AttemptFailed) -> AttemptFailed:
        failure = failed.failure
        clean = Failure(
            type=failure.type,
            message=self._without_secret(failure.message),
            status=failure.status,
            code=failure.code,
            request_id=failure.request_id,
        )
        return AttemptFailed(clean, failed.signal)

    def _without_secret(self, text: str) -> str:
        return text.replace(self._secret, "[key]") if self._secret else text

    def _clear(self, work: Any) -> None:
        """Remove folders beside everything else: one of an agent may hold 100,000 files."""
        task = asyncio.get_running_loop().create_task(asyncio.to_thread(work))
        self._clearing.add(task)
        task.add_done_callback(self._cleared)

    def _cleared(self, task: asyncio.Task[None]) -> None:
        self._clearing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("a workspace could not be removed: %s", error)


def _is_refusal(conversation: Conversation) -> bool:
    return conversation.retry is not None and not conversation.has_turns


def _session(task: Task, request: Request, workspace: Workspace) -> tuple[str, ...]:
    """The session's options: one that was begun here, by an earlier attempt say, is continued."""
    session = request.session
    if session is None:
        keep = request.params.keep or request.params.workspace
        return () if keep else ("--no-session-persistence",)
    if workspace.has_session(session):
        return (f"--resume={session}",)
    if request.params.resume is not None:
        raise InvalidTask(
            f"task {task.id}: no session {session} was begun in workspace "
            f"{request.params.workspace} on this machine",
            reason="session_missing",
        )
    return (f"--session-id={session}",)


def _outlet(environ: Mapping[str, str]) -> Outlet | None:
    """The way out of isolated runs, None where they are not. Raises UsageError."""
    if environ.get(SETTING, "") in ("", "0"):
        return None
    if elsewhere := [name for name in _ELSEWHERE if environ.get(name)]:
        raise UsageError(
            f"{SETTING} knows the way to the Messages API only, and {elsewhere[0]} is set"
        )
    return Outlet(environ)


def _program(environ: Mapping[str, str]) -> str | None:
    """Path of Claude Code: what AGENTFLOW_CLAUDE names, else what PATH finds."""
    named = environ.get("AGENTFLOW_CLAUDE")
    wanted = str(Path(named).expanduser()) if named else "claude"
    program = shutil.which(wanted, path=environ.get("PATH"))
    return str(Path(program).absolute()) if program else None


def _missing(environ: Mapping[str, str]) -> str:
    named = environ.get("AGENTFLOW_CLAUDE")
    where = f"AGENTFLOW_CLAUDE names {named}, which cannot be run" if named else "it is not in PATH"
    return (
        f"Claude Code was not found: {where}; install it with "
        "`npm install -g @anthropic-ai/claude-code`, or name it with AGENTFLOW_CLAUDE"
    )


def _concurrency(environ: Mapping[str, str]) -> int:
    text = environ.get("AGENTFLOW_CLAUDE_CLI_CONCURRENCY")
    if not text:
        return 2 * (os.cpu_count() or 1)
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise UsageError(f"AGENTFLOW_CLAUDE_CLI_CONCURRENCY is {text[:80]!r}, not 1 to 1000")
    return int(text)
