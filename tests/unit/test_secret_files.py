"""Secrets that are given as files."""

from pathlib import Path

import pytest

from agentflow.config import connect_options, read_secret_files, secret
from agentflow.errors import UsageError


def test_a_file_gives_what_its_variable_would(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret \n")
    environ = {"AGENTFLOW_PASSWORD_FILE": str(file), "ANTHROPIC_API_KEY": "sk"}
    assert connect_options(environ=environ).password == "s3cret "
    read_secret_files(environ)
    assert environ == {"AGENTFLOW_PASSWORD": "s3cret ", "ANTHROPIC_API_KEY": "sk"}


@pytest.mark.parametrize("text", [None, "", " \n", b"\xff\xfe"])
def test_a_file_that_gives_nothing_is_told_and_its_content_is_not(
    tmp_path: Path, text: str | bytes | None
) -> None:
    file = tmp_path / "key"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match="ANTHROPIC_API_KEY_FILE") as told:
        read_secret_files({"ANTHROPIC_API_KEY_FILE": str(file)})
    assert str(file) in str(told.value)


def test_two_values_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("x")
    with pytest.raises(UsageError, match="both set") as told:
        secret(
            "AGENTFLOW_TOKEN", {"AGENTFLOW_TOKEN": "y1", "AGENTFLOW_TOKEN_FILE": f"{tmp_path}/t"}
        )
    assert "y1" not in str(told.value)
