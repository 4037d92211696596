"""The tools that are not Python and that `make tools` installs into `.tools/`."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"
MODULES = TOOLS / "node_modules"
REQUIRED = "AGENTFLOW_REQUIRE_TOOLS"  # names with commas between: these may not be skipped


def nats_cli() -> Path | None:
    return _program(TOOLS / "bin" / "nats")


def helm() -> Path | None:
    """What renders the chart; `tools/install-helm` builds it."""
    return _program(TOOLS / "bin" / "helm")


def node() -> Path | None:
    """The node that runs scripts against `.tools/node_modules/@anthropic-ai/sdk`."""
    found = shutil.which("node")
    return Path(found) if found and (MODULES / "@anthropic-ai" / "sdk").is_dir() else None


def claude_cli() -> Path | None:
    return _program(MODULES / ".bin" / "claude")


def faketime() -> Path | None:
    """The library that shifts the clock of a program; Debian's package is libfaketime."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


def strace() -> Path | None:
    """A tracer that can hold up system calls; None also where it may not trace."""
    found = shutil.which("strace")
    if (
        found is None
        or subprocess.run([found, "-o", "/dev/null", "true"], capture_output=True).returncode
    ):
        return None
    return Path(found)


def tmux() -> Path | None:
    """A terminal that a program can look at; Debian's package is tmux."""
    found = shutil.which("tmux")
    return Path(found) if found else None


def chromium() -> Path | None:
    """A browser that a test drives; Debian's package is chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    return Path(found) if found else None


def web() -> Path | None:
    """The Python that has schemathesis and standardwebhooks."""
    return _program(TOOLS / "web" / "bin" / "python")


FINDERS: dict[str, Callable[[], Path | None]] = {
    "chromium": chromium,
    "claude": claude_cli,
    "faketime": faketime,
    "helm": helm,
    "nats": nats_cli,
    "node": node,
    "strace": strace,
    "tmux": tmux,
    "web": web,
}
PACKAGES = {"chromium": "chromium", "faketime": "libfaketime", "strace": "strace", "tmux": "tmux"}
"""Of Debian; `make tools` installs the others."""


def required() -> frozenset[str]:
    """The tools whose absence is a failure and not a reason to skip."""
    return frozenset(name for name in os.environ.get(REQUIRED, "").split(",") if name)


def path(name: str) -> Path:
    """The program of a tool; for tests marked with its name, where it is certain to exist."""
    found = FINDERS[name]()
    if found is None:
        raise FileNotFoundError(f"{name} is not in .tools; run `make tools`")
    return found


def _program(file: Path) -> Path | None:
    return file if os.access(file, os.X_OK) else None
