"""A store: the directory of one local stack, and who may use it.

    owner.lock    held by the process that started the stack; its pid is inside
    guests.lock   held, shared, by those who work on the stack's server with workers of their own
    server.lock   held by the nats-server on the store, which inherits it from its starter
    stack.json    where the running stack is; written when all of it is up
    nats.conf     the server's configuration
    password      what the server asks for, where it asks; made once
    run/          the server's pid and ports
    jetstream/    the server's data
    logs/         a file a part

A nats-server outlives the kill -9 of its starter, and a second one would open the same files
without complaint. So there are two locks, and the kernel drops each with the last process that
holds it: nobody owns a store whose owner has died, yet nobody starts a second server on it while
the first one lives. Lock files are never deleted, else two processes could lock two files of one
name. Everything else in the directory is only a hint to be checked.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from pathlib import Path
from typing import Final

import msgspec

from agentflow.config import PASSWORD_FILE
from agentflow.errors import StackError, StoreBusy

DEFAULT_STORE: Final = "~/.local/share/agentflow/default"
PROBE_ATTEMPTS: Final = 25
"""`running` holds the owner's lock for some microseconds; whoever wants it tries again."""
PROBE_PAUSE: Final = 0.01


class StackInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What other commands need to know of a running stack."""

    url: str
    owner_pid: int
    monitor: str | None = None
    server_pid: int | None = None
    """None when the stack uses a server that it did not start."""
    simulate: bool = False
    simulator_url: str | None = None
    durable: bool = False
    for_job: bool = False
    """It is there for one job, and ends with it."""
    user: str | None = None
    """Who its server lets in, with the store's password; None where it lets in everybody."""
    queues: tuple[str, ...] = ()
    """What its workers serve; empty where it has none, or is of a version that did not say."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(StackInfo)


def store_path(given: str | os.PathLike[str] | None = None) -> Path:
    """The directory given, else AGENTFLOW_STORE, else the default."""
    chosen = given or os.environ.get("AGENTFLOW_STORE") or DEFAULT_STORE
    return Path(chosen).expanduser().resolve()


def running(given: str | os.PathLike[str] | None = None) -> StackInfo | None:
    """The stack that runs on this store now, if any. Sync, and done in well under a millisecond."""
    store = Store(given)
    owner = store.owner()
    info = store.read_state() if owner is not None else None
    # A state of another owner was left by a crash; the present one is still starting.
    return info if info is not None and info.owner_pid == owner else None


class Store:
    """The files of one store. `take` makes this process its owner."""

    def __init__(self, given: str | os.PathLike[str] | None = None) -> None:
        self.path = store_path(given)
        self.config = self.path / "nats.conf"
        self.run = self.path / "run"
        self.logs = self.path / "logs"
        self.pid_file = self.run / "nats-server.pid"
        self._password = self.path / PASSWORD_FILE
        self._owner_lock = self.path / "owner.lock"
        self._guests_lock = self.path / "guests.lock"
        self._server_lock = self.path / "server.lock"
        self._state = self.path / "stack.json"
        self._held: int | None = None

    # ------------------------------------------------------------------ owner

    @property
    def owned(self) -> bool:
        """This process is the owner."""
        return self._held is not None

    def owner(self) -> int | None:
        """Pid of the living owner, 0 when it has not written it yet, None when there is none."""
        try:
            lock = os.open(self._owner_lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(lock, 32).strip()
            return int(text) if text.isdigit() else 0
        else:
            return None
        finally:
            os.close(lock)

    def take(self) -> None:
        """Become the owner. Raises StoreBusy when another process is."""
        try:
            for folder in (self.path, self.run, self.logs):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self._owner_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StackError(
                f"The store {self.path} cannot be used: {error.strerror}. "
                "Name another directory with --store."
            ) from error
        for remaining in reversed(range(PROBE_ATTEMPTS)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not remaining:
                    os.close(lock)
                    raise self._busy() from None
                time.sleep(PROBE_PAUSE)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        self._held = lock

    def release(self) -> None:
        """Stop being the owner."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _busy(self) -> StoreBusy:
        info, owner = running(self.path), self.owner()
        if info is not None:
            return StoreBusy(
                f"The store {self.path} is in use: process {info.owner_pid} runs a stack on it at "
                f"{info.url}. Use that one, stop it, or name another directory with --store."
            )
        who = f"process {owner}" if owner else "another process"
        return StoreBusy(
            f"The store {self.path} is in use: {who} is starting or stopping a stack on it. "
            "Try again in a moment, or name another directory with --store."
        )

    def password(self) -> str:
        """What the server on this store asks for: made once, for the owner's eyes only.

        Raises StackError where it cannot be kept.
        """
        try:
            if not self._password.is_file() or not self._password.read_text().strip():
                replace(self._password, secrets.token_urlsafe(24).encode() + b"\n")
            self._password.chmod(0o600)
            return self._password.read_text().strip()
        except OSError as error:
            raise StackError(
                f"The password {self._password} cannot be kept: {error.strerror}."
            ) from error

    # ------------------------------------------------------------------ state

    def read_state(self) -> StackInfo | None:
        """What the last owner wrote."""
        try:
            return _decoder.decode(self._state.read_bytes())
        except (OSError, msgspec.MsgspecError):
            return None

    def write_state(self, info: StackInfo) -> None:
        """Tell other commands where the stack is."""
        replace(self._state, _encoder.encode(info))

    def clear_state(self) -> None:
        """Be found no more."""
        self._state.unlink(missing_ok=True)

    # ----------------------------------------------------------------- guests

    def visit(self) -> int:
        """Be a guest until this descriptor is closed: the server is left to its guests.

        The owner hides its state before it looks for guests, so who visits looks at the state once
        more.
        """
        lock = os.open(self._guests_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH)
        return lock

    def has_guests(self) -> bool:
        """Whether somebody else's workers need the server."""
        lock = os.open(self._guests_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(lock)

    # ----------------------------------------------------------------- server

    def lock_server(self) -> int | None:
        """The lock that a server on this store inherits; None while one lives."""
        lock = os.open(self._server_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock


def replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never a part, and nobody but
    its owner."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    draft.replace(path)
