"""A part of the local stack that does nothing but live and stop as a part should.

    python stand_in.py ROLE [--port PORT] ...

It shows how it was started in a file `<name>.json` in the directory STAND_INS, if that is set.
STAND_IN_BEHAVIOUR is a JSON object of role -> `crash`, `end`, `stubborn` or `with child`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from agentflow.local.parent import PARENT_FD, stop_with_parent

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def option(name: str, default: str) -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def main() -> int:
    role = sys.argv[1]
    # Blocked in every thread, the signal waits until it is waited for.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    watched = stop_with_parent(within=1)
    behaviour = json.loads(os.environ.get("STAND_IN_BEHAVIOUR", "{}")).get(role)
    child = None
    if behaviour == "with child":
        child = subprocess.Popen([sys.executable, "-c", DEAF])
    listening = None
    if role == "simulator":
        listening = socket.create_server(("127.0.0.1", int(option("--port", "0"))))
        print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    name = option("--name", role)
    if "STAND_INS" in os.environ:
        shown = Path(os.environ["STAND_INS"]) / f"{name}.json"
        draft = shown.with_suffix(".new")
        draft.write_text(
            json.dumps(
                {
                    "pid": os.getpid(),
                    "child": child.pid if child is not None else None,
                    "argv": sys.argv[1:],
                    "watched": watched,
                    "passed_on": PARENT_FD in os.environ,
                    "env": dict(os.environ),
                }
            )
        )
        draft.replace(shown)
    if behaviour == "crash":
        print("\x1b[2Jthe reason why\x07", file=sys.stderr)
        return 3
    if behaviour == "end":
        return 0
    for number in range(2 if behaviour == "stubborn" else 1):
        signal.sigwait([signal.SIGTERM])
        print(f"{name} was asked ({number + 1})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
