"""The embedded nats-server: one process, on loopback, on one store.

Its port is given or free; a free one is chosen by the server itself and read from its ports file,
so no other process can take it in between. It runs in a session of its own: Ctrl-C in a terminal
reaches whoever started it, and the server must outlive the workers that are still finishing.

`start` first looks for a server that a killed owner left on the store. One that is healthy and set
up as we would is adopted, so its clients notice nothing; any other one is ended. Which process it
is, its command line says; that it lives at all, the lock that it inherited (see store).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

from agentflow.config import Connect, entered
from agentflow.errors import PortTaken, ServerFailed, ServerMissing, StoreBusy
from agentflow.local import listener, process
from agentflow.local.log_file import LogFile
from agentflow.local.store import Store, replace
from agentflow.local.supervisor import Verdict

HOST: Final = "127.0.0.1"
START_WITHIN: Final = 120.0
"""It starts in some 20 ms; on a store of millions of messages it reads them first."""
STOP_WITHIN: Final = 10.0
LEFTOVER_WITHIN: Final = 5.0
"""How long a server that holds the store may take to write its pid file."""
POLL: Final = 0.005
POLL_OWN: Final = 0.02
POLL_ADOPTED: Final = 0.25
"""To look for a process that is not our child costs more."""

# The same base as nats.conf at the top of the repository; the reasons stand there.
CONFIG: Final = """\
# Written by agentflow at each start; changes are lost.
server_name: {name}
listen: "127.0.0.1:{port}"
http: "127.0.0.1:-1"
max_payload: 8MB
write_deadline: "10s"
ping_interval: "20s"
ping_max: 2
jetstream {{
  store_dir: {store}
  sync_interval: {sync}
  max_buffered_msgs: 50000
}}
feature_flags {{
  js_ack_fc_v2: false
}}
pid_file: {pid_file}
ports_file_dir: {run}
log_file: {log}
log_size_limit: 10MB
log_max_num: 3
"""
# Other users of the machine reach the port too. Who gives no password is let in for nothing, so
# that each thing he tries is refused by its name; everything of ours stays in the global account,
# where an open server keeps its streams.
LOCKED: Final = """\
authorization {{
  users: [
    {{ user: {user}, password: {password} }}
    {{
      user: nobody, password: ""
      permissions: {{ publish: {{ deny: ">" }}, subscribe: {{ deny: ">" }} }}
    }}
  ]
}}
no_auth_user: nobody
"""
USER: Final = "agentflow"
FREE: Final = -1
"""The port with which nats-server takes a free one."""


class _Ports(msgspec.Struct):
    nats: list[str]
    monitoring: list[str] = []


def find_binary() -> str:
    """The nats-server that came with this Python, else the one in PATH."""
    # Not resolved: in a virtual environment the executable links to a Python elsewhere.
    beside = os.fspath(Path(sys.executable).parent)
    binary = shutil.which("nats-server", path=beside) or shutil.which("nats-server")
    if binary is None:
        raise ServerMissing
    return binary


class LocalServer:
    """One nats-server on a store that this process owns; started again it keeps its port.

    Alone: `async with LocalServer(directory) as server`. In a stack it is a part under supervision.
    """

    name: Final = "server"
    grace: Final = STOP_WITHIN

    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        *,
        port: int | None = None,
        durable: bool = False,
        locked: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.store = store if isinstance(store, Store) else Store(store)
        self.port = port or 0
        self.durable = durable
        self.locked = locked
        """Whether it asks for the store's password."""
        self.monitor: str | None = None
        self.pid: int | None = None
        self.adopted = False
        """The running server was left by an earlier owner of the store."""
        self.log = LogFile(self.store.logs / "nats-server.log")
        # A broken configuration and a crash of the server's own go to stderr, not to its log.
        self._stderr = LogFile(self.store.logs / "nats-server.err")
        self._environment = environment
        # Not one of asyncio's, which is killed with its loop: a server may be left to others.
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    @property
    def connect(self) -> Connect:
        """How to reach it."""
        return entered(self.url, USER if self.locked else None, self.store.path)

    @property
    def verdict(self) -> Verdict:
        """Nobody ends it but us: any other end is a crash."""
        return "crashed"

    @property
    def server_name(self) -> str:
        """The same for every server on this store, and for no other."""
        return "agentflow-" + hashlib.sha256(os.fsencode(self.store.path)).hexdigest()[:12]

    async def __aenter__(self) -> Self:
        self.store.take()
        try:
            await self.start()
        except BaseException:
            self.store.release()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.stop()
        finally:
            self.store.release()

    async def start(self) -> None:
        """Return when the server takes connections, whether started or adopted."""
        if not self.store.owned:
            raise RuntimeError(f"{self.store.path} must be taken before its server is started")
        self._process, self.pid, self.adopted, self.monitor = None, None, False, None
        lock = await self._clear_store(self._adopt)
        if lock is None:
            return
        try:
            await self._launch(lock)
        finally:
            os.close(lock)  # the server has its own

    async def stop(self) -> None:
        """End the server in order; kill it when it takes too long."""
        self.ask()
        try:
            async with asyncio.timeout(STOP_WITHIN):
                await self.wait()
        except TimeoutError:
            self.kill()
            await self.wait()

    async def wait(self) -> str:
        """Return when the server has ended, with how it did."""
        if self._process is not None:
            return process.ending(await self._returncode(self._process))
        while True:
            if self.pid is None or not self._is_server(self.pid):
                return "it ended"
            await asyncio.sleep(POLL_ADOPTED)

    async def _returncode(self, server: subprocess.Popen[bytes]) -> int:
        returncode = server.poll()
        while returncode is None:
            await asyncio.sleep(POLL_OWN)
            returncode = server.poll()
        return returncode

    def ask(self) -> None:
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process hears nothing before it continues

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def last_words(self) -> list[str]:
        return self._stderr.last_lines() or self.log.last_lines()

    def forget(self) -> None:
        """It is somebody else's from now on."""
        if self._process is not None:
            self._process.returncode = 0  # nobody is warned of a child that still runs
            self._process = None

    async def end_leftover(self) -> None:
        """End a server that an earlier owner left on the store, where ours would not run."""

        async def refuse(_: int) -> bool:
            return False

        lock = await self._clear_store(refuse)
        if lock is not None:
            os.close(lock)

    # --------------------------------------------------------------- leftover

    async def _clear_store(self, adopt: Callable[[int], Awaitable[bool]]) -> int | None:
        """The server's lock, once no server is left on the store; None when one was adopted."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LEFTOVER_WITHIN
        while True:
            pid = self._leftover()
            if pid is not None:
                if await adopt(pid):
                    return None
                await self._end(pid)
            lock = self.store.lock_server()
            if lock is not None:
                return lock
            if loop.time() > deadline:
                raise StoreBusy(
                    f"A nats-server still has the store {self.store.path} open, and which process "
                    f"it is cannot be found. End it (pgrep -fl {self.store.config}), or name "
                    "another directory with --store."
                )
            await asyncio.sleep(POLL)

    def _leftover(self) -> int | None:
        """Pid of a server that runs on this store, whoever started it."""
        try:
            pid = int(self.store.pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if self._is_server(pid) else None

    def _is_server(self, pid: int) -> bool:
        # A pid alone would name a stranger after a reboot. A dead process that nobody has waited
        # for yet has no command line.
        return os.fspath(self.store.config) in process.command_line(pid)

    async def _adopt(self, pid: int) -> bool:
        """Take over a server that is healthy and set up as this one would be."""
        ports = self._read_ports(pid)
        if ports is None or not ports.monitoring:
            return False
        port = urlsplit(ports.nats[0]).port
        if port is None or self.port not in (0, port):
            return False
        try:
            config = os.fsdecode(self.store.config.read_bytes())
        except OSError:
            return False
        if config not in (self._config(port), self._config(FREE)):
            return False
        listening = await listener.on_port(port)
        if listening is None or listening.name != self.server_name or not listening.jetstream:
            return False
        if not await listener.healthy(ports.monitoring[0]):
            return False
        self.pid, self.port, self.adopted = pid, port, True
        self.monitor = ports.monitoring[0]
        return True

    async def _end(self, pid: int) -> None:
        self.pid = pid
        try:
            await self.stop()
        except PermissionError:
            raise StoreBusy(
                f"Process {pid}, a nats-server of another user, has the store {self.store.path} "
                "open. Name another directory with --store."
            ) from None
        finally:
            self.pid = None

    # ----------------------------------------------------------------- launch

    async def _launch(self, lock: int) -> None:
        binary = find_binary()
        if self.port:
            await refuse_taken(self.port)
        for old in self.store.run.iterdir():
            old.unlink()
        replace(self.store.config, os.fsencode(self._config(self.port or FREE)))
        self.log.begin()
        self._stderr.path.unlink(missing_ok=True)
        self._process = self._spawn(binary, lock)
        try:
            await self._until_ready(self._process)
        except BaseException:
            self.kill()
            await self.wait()
            raise

    def _spawn(self, binary: str, lock: int) -> subprocess.Popen[bytes]:
        with self._stderr.open() as stderr:
            return subprocess.Popen(
                [binary, "-c", os.fspath(self.store.config)],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=self._environment,
                start_new_session=True,
                pass_fds=(lock,),
            )

    async def _until_ready(self, server: subprocess.Popen[bytes]) -> None:
        try:
            async with asyncio.timeout(START_WITHIN):
                while (ports := self._read_ports(server.pid)) is None:
                    if (returncode := server.poll()) is not None:
                        raise await self._failure(process.ending(returncode))
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise await self._failure(f"it was not ready within {START_WITHIN:g} s") from None
        self.pid = server.pid
        self.port = urlsplit(ports.nats[0]).port or self.port
        self.monitor = next(iter(ports.monitoring), None)

    async def _failure(self, how: str) -> ServerFailed | PortTaken:
        lines = self.last_words()
        if self.port and any("address already in use" in line for line in lines):
            return await port_taken(self.port)
        shown = "".join(f"\n  {line}" for line in lines)
        return ServerFailed(
            f"nats-server did not start on the store {self.store.path}: {how}. "
            f"Its log is {self.log.path}{':' if shown else ''}{shown}"
        )

    def _config(self, port: int) -> str:
        lock = ""
        if self.locked:
            lock = LOCKED.format(user=USER, password=_quoted(self.store.password()))
        return (
            CONFIG.format(
                name=self.server_name,
                port=port,
                sync='"always"' if self.durable else '"1s"',
                store=_quoted(self.store.path),
                pid_file=_quoted(self.store.pid_file),
                run=_quoted(self.store.run),
                log=_quoted(self.log.path),
            )
            + lock
        )

    def _read_ports(self, pid: int) -> _Ports | None:
        """Where the server of this pid listens; None while it is not ready."""
        for path in self.store.run.glob(f"*_{pid}.ports"):
            # The server writes it in place: for a moment it is empty.
            with suppress(OSError, msgspec.MsgspecError):
                ports = msgspec.json.decode(path.read_bytes(), type=_Ports)
                return ports if ports.nats else None
        return None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)  # does nothing once it has ended
        elif self.pid is not None and self._is_server(self.pid):
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _quoted(path: Path | str) -> str:
    """A string of the server's configuration language, which knows no \\u escapes."""
    return json.dumps(os.fspath(path), ensure_ascii=False)


async def refuse_taken(port: int) -> None:
    """Raise PortTaken when something listens on the port.

    Asked by a connection, not by binding: on macOS one may bind 127.0.0.1 beside a server that
    listens on all addresses, and take its clients away.
    """
    if await listener.on_port(port) is not None:
        raise await port_taken(port)


async def port_taken(port: int) -> PortTaken:
    """The error that says who has the port, and what to do about it."""
    other = await listener.on_port(port)
    if other is not None and other.nats:
        return PortTaken(
            f"Port {port} is taken by a NATS server ({other.name}, version {other.version}). "
            f"Use it with --nats nats://{HOST}:{port}, or choose another port with --port."
        )
    return PortTaken(
        f"Port {port} is taken by something that is not a NATS server. "
        "Choose another port with --port."
    )
