"""The files for running elsewhere are accepted by the programs that read them."""

import subprocess
import sys
from pathlib import Path

from tests.support.nats_server import binary

ROOT = Path(__file__).resolve().parents[2]


def test_the_compose_file_fits_its_schema() -> None:
    """The schema comes with check-jsonschema, so nothing is fetched."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_server_accepts_nats_conf(tmp_path: Path) -> None:
    done = subprocess.run(
        [binary(), "-t", "-c", str(ROOT / "nats.conf")],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_images_install_from_files_that_exist() -> None:
    """A COPY of a missing file shows only when somebody builds the image."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert copied
    assert [source for source in copied if not (ROOT / source).exists()] == []
