"""A Node worker with @anthropic-ai/sdk in process: the document's own proposal."""

from __future__ import annotations

import json
import shutil

from bench.compare import sizes
from bench.compare.rows.design import BUILT, INSTALL, QUEUE, WORKERS, Design, Site, Size, program

FOLDER = BUILT / "node"
PACKAGES = ("@anthropic-ai/sdk", "@nats-io/transport-node")


def _missing(_: str | None) -> str | None:
    if shutil.which("node") is None:
        return "node is not installed"
    wanted = json.loads((WORKERS / "node" / "package.json").read_text())["dependencies"]
    if _installed() != wanted:
        return f"its packages are not installed: {INSTALL}"
    return None


def _installed() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        package = FOLDER / "node_modules" / name / "package.json"
        if package.is_file():
            versions[name] = json.loads(package.read_text())["version"]
    return versions


def _command(site: Site, slots: int, processes: int) -> list[str]:
    # Beside its packages, as Node looks for them from the program's own folder upwards.
    program = shutil.copy(WORKERS / "node" / "worker.js", FOLDER / "worker.js")
    return [shutil.which("node") or "node", str(program), QUEUE, str(slots)]


def _versions(_: str | None) -> dict[str, str]:
    return {"node": sizes.said("node", "--version"), **_installed()}


def _size(_: str | None) -> Size | None:
    node = program(shutil.which("node") or "")
    if node is None:
        return None
    return Size(
        sizes.folder_mb(FOLDER / "node_modules"),
        sizes.file_mb(node),
        "node_modules; the node binary",
    )


DESIGN = Design(
    name="node",
    title="Node, SDK in process",
    text="a Node program with @anthropic-ai/sdk that takes the same tasks over NATS, one process",
    kind="claude",
    command=_command,
    missing=_missing,
    versions=_versions,
    size=_size,
)
