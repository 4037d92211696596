"""What a design takes on disk, and which versions it has."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.compare.rows.design import Size


def file_mb(path: str | Path) -> float:
    """Megabytes of a file, followed through links."""
    return round(Path(path).resolve().stat().st_size / 1e6, 1)


def folder_mb(path: Path, without: Sequence[str] = ()) -> float:
    """Megabytes of all files in a folder, without those of the named folders at its top."""
    total = 0
    for entry in path.iterdir():
        if entry.name not in without:
            files = entry.rglob("*") if entry.is_dir() and not entry.is_symlink() else [entry]
            total += sum(file.lstat().st_size for file in files if not file.is_dir())
    return round(total / 1e6, 1)


def of_python(name: str, without: Sequence[str] = ()) -> Size | None:
    """An installed distribution with all that it requires, but for the named ones and what only
    they require. `interpreter_mb` is the standard library and the interpreter."""
    from bench.compare.rows.design import Size

    try:
        required = list(closure(name, without))
    except PackageNotFoundError:
        return None
    own = sum(_files_mb(one) for one in required)
    rest = " without " + ", ".join(without) if without else ""
    return Size(round(own, 1), _python_mb(), f"{name} and what it requires{rest}")


def closure(name: str, without: Sequence[str] = ()) -> Iterator[Distribution]:
    """A distribution and those that it requires here, each once; extras are left out."""
    seen, todo = set(without), [name]
    while todo:
        wanted = todo.pop()
        if wanted in seen:
            continue
        seen.add(wanted)
        try:
            installed = distribution(wanted)
        except PackageNotFoundError:
            if wanted == name:
                raise
            continue  # required on other systems only
        yield installed
        for text in installed.requires or ():
            if "extra ==" not in text:
                todo.append(_name(text))


def _name(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""


def _files_mb(installed: Distribution) -> float:
    files = (Path(str(installed.locate_file(file))) for file in installed.files or ())
    editable = installed.read_text("direct_url.json")
    if editable and '"editable": true' in editable:
        # Its files are where they are written, and not in the list.
        root = Path(__file__).resolve().parents[2]
        return sum(folder_mb(root / name) for name in ("agentflow", "tui/agentflow_tui"))
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def _python_mb() -> float:
    library = Path(sysconfig.get_paths()["stdlib"])
    # What an image leaves out: tests, and the archive for embedding Python.
    embedding = [config.name for config in library.glob("config-*")]
    mb = folder_mb(library, without=("site-packages", "dist-packages", "test", *embedding))
    return round(mb + file_mb(sysconfig.get_config_var("BINDIR") + "/python3"), 1)


def versions(*names: str, path: str | None = None) -> dict[str, str]:
    """Versions of distributions, here or in another site-packages."""
    if path is None:
        return {name: distribution(name).version for name in names}
    there = {one.name: one.version for one in distributions(path=[path])}
    return {name: there[name] for name in names if name in there}


def said(*command: str) -> str:
    """The first line that a program prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    return (done.stdout.strip().splitlines() or ["?"])[0]


def image_mb() -> tuple[float | None, str]:
    """Size of AgentFlow's container image, or why it is not known."""
    for engine in ("docker", "podman"):
        try:
            done = subprocess.run(
                [engine, "image", "inspect", "--format", "{{.Size}}", "agentflow"],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0 and done.stdout.strip().isdigit():
            return round(int(done.stdout) / 1e6, 1), f"{engine} image agentflow"
        said = done.stderr.strip().splitlines()
        problem = said[-1] if said else "no answer"
        if "no such image" in problem.lower() or "not known" in problem.lower():
            return None, f"not built; {engine} build -t agentflow . makes it"
        return None, f"{engine} does not answer here"
    return None, "no container engine here"
