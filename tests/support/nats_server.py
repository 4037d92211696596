"""A real nats-server for one test.

It stands apart from the product's own server on purpose: a fault in that one must not make the
tests that would show it start green.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

READY_WITHIN = 10.0  # seconds; the server starts in some 10 ms, a loaded machine takes longer
CONFIG = """
server_name: {name}
listen: 127.0.0.1:{port}
http: 127.0.0.1:{monitoring_port}
max_payload: 8MB
{jetstream}
{extra}
"""
JETSTREAM = """
jetstream {{
  store_dir: {store}
  sync_interval: 1s
  max_buffered_msgs: 50000
  {options}
}}
"""


def binary() -> str:
    """The nats-server beside this Python, else the one in PATH."""
    beside = Path(sys.executable).parent
    found = shutil.which("nats-server", path=str(beside)) or shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError("nats-server is not installed; `make test` installs it")
    return found


def free_port() -> int:
    """A loopback port that was free a moment ago.

    It is not reserved: whoever binds it must be ready to be told that it is taken.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class NatsServer:
    """One server process on one store; stopped and started again it keeps port and store."""

    def __init__(self, folder: Path, *, extra: str = "", jetstream: str | None = "") -> None:
        """`jetstream` is added to its block; None leaves JetStream out."""
        self.folder = folder
        self.store = folder / "store"
        self.log = folder / "nats-server.log"
        self.extra = extra
        self.jetstream = jetstream
        self.port = 0
        self.monitoring_port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitoring(self) -> str:
        return f"http://127.0.0.1:{self.monitoring_port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start, and return when the server answers."""
        if self.alive:
            raise RuntimeError("this server runs already")
        if self.port:
            self._launch()
            return self
        # Another process may take a free port before our server binds it.
        for remaining in (2, 1, 0):
            self.port, self.monitoring_port = free_port(), free_port()
            try:
                self._launch()
            except RuntimeError:
                if not remaining or "address already in use" not in self.log.read_text():
                    raise
            else:
                break
        return self

    def stop(self) -> None:
        """Ask it to stop and wait; a server that does not is killed, and that is an error."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        # A stopped process would not see the SIGTERM before somebody continues it.
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """kill -9: nothing is flushed, no client is told."""
        process = self._running()
        process.kill()
        process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this server was never started")
        return self._process

    def _launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nats.conf"
        config.write_text(
            CONFIG.format(
                name=f"test-{self.port}",
                port=self.port,
                monitoring_port=self.monitoring_port,
                jetstream=self._jetstream(),
                extra=self.extra,
            )
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [binary(), "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"GOMAXPROCS": "2"},  # some tests start several at once
            )
        try:
            self._wait_until_ready()
        except BaseException:
            if self.alive:
                self.kill()
            raise

    def _jetstream(self) -> str:
        if self.jetstream is None:
            return ""
        return JETSTREAM.format(store=json.dumps(str(self.store)), options=self.jetstream)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            if not self.alive:
                raise RuntimeError(f"nats-server ended at once:\n{self.log.read_text()[-2000:]}")
            info = read_info(self.port)
            # The name tells our server from a stranger's that got the same port first.
            if info is not None and info["server_name"] == f"test-{self.port}":
                return
            time.sleep(0.002)
        raise RuntimeError(f"nats-server did not answer:\n{self.log.read_text()[-2000:]}")


def read_info(port: int) -> dict[str, Any] | None:
    """The INFO line with which a server greets; None when nobody greets."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=1) as connection,
            connection.makefile("rb") as lines,
        ):
            verb, _, rest = lines.readline().partition(b" ")
    except OSError:
        return None
    if verb != b"INFO":
        return None
    info: dict[str, Any] = json.loads(rest)
    return info
