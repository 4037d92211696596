"""Files of a workspace by pattern: what matches, and that no tree and no pattern takes for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentflow.handlers.claude_cli import collecting
from agentflow.handlers.claude_cli.collecting import matching

FILES = ("a.txt", "b.md", "out/c.md", "out/deep/d.md", "out/deep/.hidden", "x/y/z/e.txt")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    ["*.txt", "**/*.md", "out/**/*.md", "out/*", "**/deep/*", "x/**/e.txt", "**/*", "[ab].*"],
)
def test_what_matches_is_what_pathlib_finds(tree: Path, pattern: str) -> None:
    found, whole = matching(tree, [pattern])
    assert whole
    assert found == sorted(tree.glob(pattern))


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "out/../../*", ""])
def test_nothing_is_found_outside(tree: Path, pattern: str) -> None:
    assert matching(tree, [pattern]) == ([], True)


def test_patterns_keep_their_order_and_name_nothing_twice(tree: Path) -> None:
    found, _ = matching(tree, ["out/c.md", "*.txt", "**/*.md"])
    names = [path.relative_to(tree).as_posix() for path in found]
    assert names == ["out/c.md", "a.txt", "b.md", "out/deep/d.md"]


def test_a_link_to_a_folder_is_not_followed(tree: Path) -> None:
    (tree / "loop").symlink_to(tree)
    found, whole = matching(tree, ["**/a.txt"])
    assert whole and found == [tree / "a.txt"]


def test_steps_are_bounded_by_the_path_and_the_pattern(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of the comparison is counted: a pattern of many `**` has no more of them."""
    deep = tree.joinpath(*["d"] * 90)
    deep.mkdir(parents=True)
    steps = 0
    skip = collecting._with_skipped

    def counted(places: set[int], pattern: collecting.Pattern) -> set[int]:
        nonlocal steps
        steps += len(places)
        return skip(places, pattern)

    monkeypatch.setattr(collecting, "_with_skipped", counted)
    monkeypatch.setattr(collecting, "SECONDS", 1e9)
    pattern = "**/*/" * 7 + "zz"
    found, whole = matching(tree, [pattern])
    assert whole and not found
    assert steps < 100 * 100 * 20


def test_a_search_ends_at_so_many_entries(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "ENTRIES", 3)
    assert not matching(tree, ["**/*"])[1]


def test_a_search_ends_at_so_many_folders(tree: Path) -> None:
    tree.joinpath(*["d"] * 200).mkdir(parents=True)
    found, whole = matching(tree, ["**/*.md"])
    assert not whole and len(found) == 3
