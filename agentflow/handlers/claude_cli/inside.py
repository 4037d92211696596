"""The only way out of an isolated run: a port of its own loopback that leads to the outlet.

    python -I -S inside.py SOCKET VARIABLE COMMAND...

Runs in the namespaces of a run (isolation.py), which have no network but their own loopback. It
listens there, tells the command the address in VARIABLE (`NAME` or `NAME=/path`), and carries each
connection to SOCKET, at whose other end outlet.py stands. It ends with the command, with its exit
status.

It imports nothing of ours: it is all that the run sees of this program.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress


def carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end, how in ((source, socket.SHUT_RD), (target, socket.SHUT_WR)):
        with suppress(OSError):
            end.shutdown(how)


def serve(listener: socket.socket, path: str) -> None:
    while True:
        inner, _ = listener.accept()
        outer = socket.socket(socket.AF_UNIX)
        try:
            outer.connect(path)
        except OSError:
            inner.close()
            continue
        for ends in ((inner, outer), (outer, inner)):
            threading.Thread(target=carry, args=ends, daemon=True).start()


def main() -> None:
    path, variable, *command = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener, path), daemon=True).start()
    name, _, suffix = variable.partition("=")
    address = f"http://127.0.0.1:{listener.getsockname()[1]}{suffix}"
    process = subprocess.Popen(command, env={**os.environ, name: address})
    # Whoever ends us means the command, which ends in order.
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    status = process.wait()
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
