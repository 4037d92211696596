"""Where answers arrive: option, environment, context, in this order."""

from pathlib import Path

import pytest

from agentflow.config import Connect, connect_options, split_urls
from agentflow.errors import UsageError


@pytest.fixture
def context(tmp_path: Path) -> dict[str, str]:
    """An environment whose context of the nats CLI has a prefix."""
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "team.json").write_text('{"url": "nats://h:1", "inbox_prefix": "_INBOX.context"}')
    return {"XDG_CONFIG_HOME": str(tmp_path), "AGENTFLOW_CONTEXT": "team"}


def test_option_before_environment_before_context(context: dict[str, str]) -> None:
    assert connect_options(environ={}).inbox_prefix == Connect().inbox_prefix == "_INBOX"
    assert connect_options(environ=context).inbox_prefix == "_INBOX.context"
    named = context | {"AGENTFLOW_INBOX_PREFIX": "_INBOX.environment"}
    assert connect_options(environ=named).inbox_prefix == "_INBOX.environment"
    given = connect_options(inbox_prefix="_INBOX.option", environ=named)
    assert given.inbox_prefix == "_INBOX.option"
    assert given.urls == ("nats://h:1",)


@pytest.mark.parametrize("prefix", ["a b", "a\r\nPUB", "_INBOX.", ".a", "a..b", "a.*", ">", "a.>"])
def test_a_prefix_that_is_no_subject_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError, match="inbox prefix"):
        connect_options(inbox_prefix=prefix, environ={})


@pytest.mark.parametrize(
    "url",
    [
        "nats://ada:hunter/2@h:4222",
        "nats://ada:hunter#2@h",
        "nats://ada:hunter?2@h",
        "nats://ada:hunter100%@h",
        "nats://ada:hunter%zz@h",
        "nats://ada:hunter,2@h",
        "ada:hunter",
        "nats://:hunter@",
    ],
)
def test_a_url_that_is_none_is_refused_without_what_may_be_a_password(url: str) -> None:
    with pytest.raises(UsageError, match="percent-encoded") as caught:
        split_urls(url)
    assert "hunter" not in str(caught.value)


def test_urls_that_are_some() -> None:
    assert split_urls("h, nats://u:a%2Fb@h:1 ,tls://[::1]:4222") == (
        "nats://h",
        "nats://u:a%2Fb@h:1",
        "tls://[::1]:4222",
    )
