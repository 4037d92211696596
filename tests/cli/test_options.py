"""How a command finds its server, and how texts become values."""

import fcntl
import json
import os
from pathlib import Path

import click
import pytest

from agentflow.cli.options import Duration, labels, parameters, resolve
from agentflow.config import DEFAULT_URL, local_url
from agentflow.errors import UsageError

NOTHING: dict[str, str | None] = dict.fromkeys(
    ["nats", "context", "creds", "user", "tls_ca", "tls_cert", "tls_key", "store"]
)


@pytest.fixture
def stack(alone: Path) -> Path:
    """A store as a running stack leaves it; this process is its owner."""
    store = alone / "store"
    store.mkdir()
    lock = os.open(store / "owner.lock", os.O_RDWR | os.O_CREAT)
    os.write(lock, b"%d\n" % os.getpid())
    fcntl.flock(lock, fcntl.LOCK_EX)
    state = {"url": "nats://127.0.0.1:7777", "owner_pid": os.getpid(), "simulate": True}
    (store / "stack.json").write_text(json.dumps(state))
    return store


def test_nothing_said_and_no_stack_is_the_default(alone: Path) -> None:
    assert resolve(NOTHING).urls == (DEFAULT_URL,)
    assert resolve(NOTHING, local=False).urls == ()


def test_the_local_stack_is_found(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(NOTHING).urls == ("nats://127.0.0.1:7777",)
    monkeypatch.delenv("AGENTFLOW_STORE")
    assert resolve(NOTHING).urls == (DEFAULT_URL,)
    assert resolve({**NOTHING, "store": str(stack)}).urls == ("nats://127.0.0.1:7777",)


def test_without_a_store_the_users_own_are_looked_at(
    stack: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTFLOW_STORE")
    own = alone / ".local/share/agentflow"
    own.mkdir(parents=True)
    (own / "simulated").symlink_to(stack)
    assert local_url() == "nats://127.0.0.1:7777"


def test_a_stack_that_died_is_not_found(stack: Path) -> None:
    (stack / "stack.json").write_text('{"url": "nats://127.0.0.1:1", "owner_pid": 1}')
    assert local_url() is None
    (stack / "stack.json").write_text("half a fi")
    assert local_url() is None
    (stack / "owner.lock").unlink()
    (stack / "owner.lock").write_text(str(os.getpid()))
    assert local_url() is None


def test_a_server_that_is_named_comes_first(stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLOW_NATS", "one:1,nats://two:2")
    assert resolve(NOTHING).urls == ("nats://one:1", "nats://two:2")
    assert resolve({**NOTHING, "nats": "nats://three:3"}).urls == ("nats://three:3",)


def test_the_password_comes_from_the_environment(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTFLOW_PASSWORD", "secret")
    found = resolve({**NOTHING, "user": "me"})
    assert (found.user, found.password) == ("me", "secret")
    with pytest.raises(UsageError, match="there is no file /no/ca"):
        resolve({**NOTHING, "tls_ca": "/no/ca"})


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "0", "x", "1w", "inf", "nan", "1e400"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a duration"):
        Duration().convert(text, None, None)


def test_parameters_are_json_or_text() -> None:
    given = ("n=1", "f=0.5", "b=true", 'o={"a": [1]}', "t=plain text", 'q="1"', "e=", "s=a=b")
    assert parameters(given) == {
        "n": 1,
        "f": 0.5,
        "b": True,
        "o": {"a": [1]},
        "t": "plain text",
        "q": "1",
        "e": "",
        "s": "a=b",
    }
    assert labels(("a=1", "b=x=y")) == {"a": "1", "b": "x=y"}
