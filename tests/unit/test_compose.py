"""The files for running elsewhere are accepted by the programs that read them, and fit together."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from agentflow.protocol import streams, subjects
from tests.support.deployment import OPTIONAL, PASSWORDS, variable
from tests.support.nats_server import binary

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name in SERVICES if name != "nats"]
ROLES = (ROOT / "deploy/nats-roles.conf").read_text()


# ------------------------------------------------------------------------------- compose


def test_the_compose_file_fits_its_schema() -> None:
    """The schema comes with check-jsonschema, so nothing is fetched."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_secret_stands_in_the_compose_file() -> None:
    secrets = [
        (name, value)
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if re.search("PASSWORD$|KEY$", name)
    ]
    # The server reads them from its environment; ours are files, which nobody sees in `inspect`.
    assert len(secrets) == len(PASSWORDS)
    for name, value in secrets:
        # Missing or empty it does not start: an empty password would let everybody in.
        assert re.fullmatch(r"\"?\$\{[A-Z_]+:\?[^}]+\}\"?", value), name


def test_the_secrets_of_ours_are_files_that_exist() -> None:
    files = {f"/run/secrets/{name}" for name in COMPOSE["secrets"]}
    for name in OURS:
        given = SERVICES[name]["environment"]
        read = {value for key, value in given.items() if key.endswith("_FILE")}
        assert read and read <= files
        assert read == {f"/run/secrets/{secret}" for secret in SERVICES[name]["secrets"]}


def test_no_service_may_more_than_it_needs() -> None:
    for service in SERVICES.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_example_of_the_environment_names_what_compose_needs() -> None:
    needed = set(re.findall(r"\$\{([A-Z_]+):\?", (ROOT / "docker-compose.yml").read_text()))
    needed |= {secret["environment"] for secret in COMPOSE["secrets"].values()}
    lines = (ROOT / "deploy/env.example").read_text().splitlines()
    assert {line.partition("=")[0] for line in lines if re.match("[A-Z]", line)} == needed
    assert all(line.endswith("=") for line in lines if re.match("[A-Z]", line))


def test_a_filled_in_environment_is_neither_committed_nor_sent_to_the_image() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert not any(".env" in line or "nats-data" in line for line in ignored)


def test_the_server_is_reached_from_outside_on_loopback_only() -> None:
    assert SERVICES["nats"]["command"][-2:] == ["-a", "0.0.0.0"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["nats"]["ports"])
    assert not any("ports" in SERVICES[name] for name in OURS)


@pytest.mark.parametrize("name", OURS)
def test_each_service_connects_under_its_role(name: str) -> None:
    environment = SERVICES[name]["environment"]
    role = {"tui": "viewer"}.get(name, name)
    assert environment["AGENTFLOW_USER"] == role
    assert environment["AGENTFLOW_INBOX_PREFIX"] == f"_INBOX.{role}"
    assert environment["AGENTFLOW_PASSWORD_FILE"] == f"/run/secrets/{role}_password"
    assert COMPOSE["secrets"][f"{role}_password"] == {"environment": variable(role)}


def test_services_come_back_and_have_the_time_to_end() -> None:
    for name, service in SERVICES.items():
        assert service["restart"] == ("no" if name == "tui" else "unless-stopped")
        assert service["healthcheck"]
    worker = SERVICES["worker"]
    grace = int(worker["command"][worker["command"].index("--grace") + 1])
    # After it the worker hands back what still runs.
    assert int(worker["stop_grace_period"].removesuffix("s")) >= grace + 10


def test_what_is_mounted_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), source


# ------------------------------------------------------------------------------ nats.conf


def test_the_server_accepts_nats_conf(tmp_path: Path) -> None:
    done = subprocess.run(
        [binary(), "-t", "-c", str(ROOT / "nats.conf")],
        env={variable(role): '"x"' for role in PASSWORDS},
        capture_output=True,
        text=True,
        timeout=30,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_password_comes_from_the_environment() -> None:
    pattern = re.compile(r"^\s*user: (\S+)\n\s*password: (\S+)$", re.MULTILINE)
    assert sorted(pattern.findall(ROLES)) == sorted((r, f"${variable(r)}") for r in PASSWORDS)
    for role in OPTIONAL:
        text = (ROOT / f"deploy/nats-{role}.conf").read_text()
        assert pattern.findall(text) == [(role, f"${variable(role)}")]


def accounts() -> dict[str, str]:
    """The text of each account that imports, by its role."""
    files = [ROLES, *((ROOT / f"deploy/nats-{role}.conf").read_text() for role in OPTIONAL)]
    found = re.findall(r"^( *)([A-Z]+) \{\n(.*?)^\1\}", "\n".join(files), re.MULTILINE | re.DOTALL)
    return {name.lower(): text for _, name, text in found if name != "AGENTFLOW"}


def test_an_account_imports_what_its_users_may_and_nothing_else() -> None:
    """One more import would be refused by nobody, one less by nothing that stands in the log."""
    exports = set(re.findall(r"\{ (service|stream): \"([^\"]+)\"", ROLES.split("exports:")[1]))
    assert set(accounts()) == {"viewer", "submitter", *OPTIONAL}
    for role, text in accounts().items():
        imported = re.findall(
            r"(service|stream): \{ account: AGENTFLOW, subject: \"([^\"]+)\"", text
        )
        publish, subscribe = re.findall(r"allow: \[(.*?)\]", text, re.DOTALL)
        services = [subject for what, subject in imported if what == "service"]
        assert services == re.findall(r'"(.+)"', publish), role
        heard = {subject for what, subject in imported if what == "stream"}
        assert heard | {f"_INBOX.{role}.>"} == set(re.findall(r'"(.+)"', subscribe)), role
        for what, subject in imported:
            wider = {(what, subject), (what, re.sub(r"\.job\.\*$|\.get$|\.\w+$", ".*", subject))}
            budgets = {(what, "$KV.agentflow.budgets.>")} if "budgets" in subject else set()
            assert exports & (wider | budgets), (role, subject)


def test_permissions_name_our_streams_and_subjects_only() -> None:
    """A stream that was renamed, or one letter less, and a role is refused what it needs."""
    names = {stream["name"] for stream in [*streams.streams(), streams.cache()]} | {"*", ">"}
    families = {
        subject.split(".")[1] for stream in streams.streams() for subject in stream["subjects"]
    }
    families |= {"live", "tokens", "presence", "control", "api"}
    for subject in re.findall(r'^ +"(.+)"$', ROLES, re.MULTILINE):
        tokens = subject.split(".")
        if tokens[0] == "$JS":
            assert tokens[-1] in ("INFO", "NAMES") or names & set(tokens), subject
        elif tokens[0] == "agentflow":
            assert tokens[1] in families, subject
        elif tokens[0] in ("$KV", "$O"):
            assert tokens[1] in (subjects.BUCKET, subjects.CACHE), subject
        else:
            assert subject in ("$SRV.>", "_R_.>") or tokens[0] == "_INBOX", subject


# ------------------------------------------------------------------------------ Dockerfile

INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
    if line and not line.startswith("#")
]
LAST_STAGE = INSTRUCTIONS[max(n for n, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def test_the_images_install_from_files_that_exist() -> None:
    """A COPY of a missing file shows only when somebody builds the image."""
    copied = [
        source
        for name, rest in INSTRUCTIONS
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert copied
    assert [source for source in copied if not (ROOT / source).exists()] == []
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    assert {re.sub("requirements.*", "requirements*.txt", name) for name in copied} <= let_through


def test_everything_from_an_index_is_installed_by_its_hash() -> None:
    for _, command in (each for each in INSTRUCTIONS if "/pip " in each[1]):
        for part in command.split("&&"):
            if " install " in part or " wheel " in part:
                assert "--require-hashes" in part or "--no-index" in part, part
                assert "--no-cache-dir" in part, part


def test_the_image_runs_as_nobody_and_hears_its_signals() -> None:
    names = [name for name, _ in LAST_STAGE]
    last = dict(LAST_STAGE)
    assert last["USER"] == "agentflow"
    # Whatever is installed is root's: the user may not change it.
    assert names.index("USER") > max(n for n, name in enumerate(names) if name in ("RUN", "COPY"))
    # Without a shell between: it would be process 1 and keep SIGTERM for itself.
    assert last["ENTRYPOINT"] == '["agentflow"]'
    assert last["HEALTHCHECK"].endswith('CMD ["agentflow", "health"]')


def test_python_of_the_image_is_one_that_is_tested() -> None:
    stages = {rest.split()[0] for name, rest in INSTRUCTIONS if name == "FROM"}
    assert stages == {"${PYTHON}"}
    arguments = dict(rest.split("=", 1) for name, rest in INSTRUCTIONS if name == "ARG")
    image = arguments["PYTHON"]
    version = image.removeprefix("python:").removesuffix("-slim")
    assert f"Python :: {version}" in (ROOT / "pyproject.toml").read_text()
