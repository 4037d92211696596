"""The folders of Claude Code's tasks.

    <root>/tasks/<task id>/     one a task, used again when the task is retried
    <root>/named/<name>/        one that tasks name; never removed by us
           lock                 held while a process works in it
           home/                HOME, with `config` in it: nobody else's settings and sessions
           work/                where it works
           tmp/                 what Claude Code itself puts aside
    <root>/trash/               on its way out

What lies in `work` was put there by a program that may have been told anything by anybody: no path
is followed through a symbolic link, neither to write nor to read.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import logging
import os
import shutil
import stat
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final

from agentflow.errors import InvalidTask, StackError
from agentflow.handlers.claude_cli.arguments import AGENTS, Binary
from agentflow.handlers.claude_cli.collecting import DEPTH, ENTRIES, SECONDS, matching

_log = logging.getLogger(__name__)

COLLECTED_BYTES: Final = 2 * 1024 * 1024
"""Of all files that a result carries; a result has to fit one message."""
COLLECTED_FILES: Final = 500
NOT_SEARCHED: Final = (
    f"(what is {DEPTH} folders deep, beyond {ENTRIES:,} entries or {SECONDS:g} s of searching)"
)
LISTED: Final = 50
"""Names of files left out that a result carries."""
OLD: Final = 7 * 86_400
"""Seconds after which a task's folder is nobody's: its log has expired too."""
LOCK_EVERY: Final = 0.1


class Workspace:
    """The folder of one task, or a named one; locked while it is used."""

    def __init__(self, folder: Path, task_id: str) -> None:
        self.folder = folder
        self.task_id = task_id
        self.home = folder / "home"
        self.config = self.home / "config"
        self.work = folder / "work"
        self.scratch = folder / "tmp"

    def prepare(self, private: Mapping[str, str], files: Mapping[str, str | Binary]) -> None:
        """Write what a run begins with. Raises InvalidTask where a folder is in the way."""
        for path in (self.home, self.config, self.work, self.scratch):
            path.mkdir(mode=0o700, exist_ok=True)
        # Of another task in a folder that tasks share.
        shutil.rmtree(self.home / AGENTS, ignore_errors=True)
        for name, text in private.items():
            _write(self.home, name, text.encode())
        for name, content in files.items():
            data = content.base64 if isinstance(content, Binary) else content.encode()
            try:
                _write(self.work, name, data)
            except OSError as error:
                raise InvalidTask(
                    f"task {self.task_id}: params.files: {name[:200]!r} cannot be written: {error}"
                ) from None

    def has_session(self, session: str) -> bool:
        """Whether a session of this id was begun here."""
        return any(self.config.glob(f"projects/*/{session}.jsonl"))

    def collect(self, patterns: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Files by path, text or {"base64": ...}, and the paths of what was too much."""
        files: dict[str, Any] = {}
        left_out: list[str] = []
        left = COLLECTED_BYTES
        paths, whole = matching(self.work, patterns)
        for path in paths:
            if not _is_ours(self.work, path):
                continue
            name = path.relative_to(self.work).as_posix()
            data = _read(path, left) if len(files) < COLLECTED_FILES else None
            if data is None:
                left_out.append(name)
                continue
            left -= len(data)
            files[_shown(name)] = _content(data)
        if not whole:
            left_out.insert(0, NOT_SEARCHED)
        return files, [_shown(name) for name in left_out]


class Workspaces:
    """All workspaces under one root, which several workers may share."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._trash = self.root / "trash"

    def open(self) -> None:
        """Make the root and clear what was left behind. Raises StackError."""
        try:
            for name in ("tasks", "named", "trash"):
                (self.root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(
                f"workspaces cannot be kept in {self.root}: {error.strerror}; "
                "name another folder with AGENTFLOW_WORKSPACES"
            ) from None

    def tidy(self, older_than: float = OLD) -> None:
        """Remove folders of tasks that have been left alone for so long."""
        before = time.time() - older_than
        for folder in (self.root / "tasks").iterdir():
            with suppress(OSError):
                if folder.stat().st_mtime > before:
                    continue
                lock = _try_lock(folder / "lock")
                if lock is not None:
                    self._discard(folder)
                    os.close(lock)
        for folder in self._trash.iterdir():
            _remove(folder)

    @asynccontextmanager
    async def use(self, task_id: str, name: str | None = None) -> AsyncIterator[Workspace]:
        """The workspace of a task, or the named one; waits until no other process works in it."""
        folder = self.root / ("named" if name else "tasks") / (name or task_id)
        while True:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                lock = _try_lock(folder / "lock")
            except FileNotFoundError:
                continue  # it was thrown away this moment
            if lock is not None:
                break
            await asyncio.sleep(LOCK_EVERY)
        try:
            os.utime(folder)
            yield Workspace(folder, task_id)
        finally:
            os.close(lock)

    def throw_away(self, workspace: Workspace) -> Callable[[], None]:
        """Take a workspace out of sight at once; call what is returned to delete it."""
        doomed = self._discard(workspace.folder)
        return lambda: _remove(doomed)

    def _discard(self, folder: Path) -> Path:
        doomed = self._trash / uuid.uuid4().hex
        folder.rename(doomed)
        return doomed


def _try_lock(path: Path) -> int | None:
    """The lock's descriptor, None when another process has it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its folder may have been thrown away, and made anew, before the lock was ours.
        if os.path.samestat(os.fstat(lock), os.stat(path)):
            return lock
    except BlockingIOError:
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _write(root: Path, name: str, data: bytes) -> None:
    *folders, last = PurePosixPath(name).parts
    folder = root
    for part in folders:
        folder = folder / part
        if folder.is_symlink():
            folder.unlink()
        folder.mkdir(exist_ok=True)
    path = folder / last
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "wb") as file:
        file.write(data)


def _is_ours(work: Path, path: Path) -> bool:
    """Whether a path is a regular file and leads to it without a link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode) and path.parent.resolve().is_relative_to(
            work.resolve()
        )
    except OSError:
        return False


def _read(path: Path, most: int) -> bytes | None:
    """The content, None if there is more than that, or none to be had."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        data = file.read(most + 1)
    return data if len(data) <= most else None


def _content(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _shown(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _remove(folder: Path) -> None:
    """Delete a folder, also what its owner may not change: an agent may have run chmod."""
    try:
        shutil.rmtree(folder)
    except OSError:
        for path, _, _ in os.walk(folder):
            with suppress(OSError):
                os.chmod(path, 0o700)
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        _log.warning("%s cannot be removed whole", folder)
