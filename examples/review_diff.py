"""Review a git diff: a task for each file that changed.

    agentflow up                                                  # in one terminal
    agentflow worker examples.review_diff:app --queues reviews    # in another, or in several
    python examples/review_diff.py main...HEAD                    # arguments of git diff

Prints remarks as compilers do, worst first. Exits 1 when one of them is a bug, so that it can stand
in a hook. The worker needs no repository: a task brings its patch along.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from typing import Any, Literal

import msgspec

import agentflow

MODEL = "claude-opus-5-5"
LONGEST = 200_000
"""Characters of a patch; longer ones are generated files."""

app = agentflow.App()


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """What a task is given: the patch of one file."""

    path: str
    patch: str


class Remark(msgspec.Struct, forbid_unknown_fields=True):
    """One thing to say, about a line of the new file."""

    line: int
    severity: Literal["bug", "risk", "style"]
    text: str


class Review(msgspec.Struct, forbid_unknown_fields=True):
    """What a task returns, and what Claude is asked for."""

    remarks: list[Remark]


SYSTEM = (
    "You review one file of a change. Report what is wrong with the lines it adds or removes: bugs "
    "first, then risks, then style. Say nothing about the rest, and nothing at all if all is well."
)


def schema_of(model: type[msgspec.Struct]) -> dict[str, Any]:
    """A structure as the schema of Claude's answer."""
    _, parts = msgspec.json.schema_components([model], ref_template="#/$defs/{name}")
    return {**parts[model.__name__], "$defs": parts}


@app.task(kind="review", retries=2, timeout=300)
async def review(ctx: agentflow.Context, change: Change) -> Review:
    """Review the change of one file."""
    answer = await ctx.claude(
        f"{change.path}\n\n{change.patch}",
        system=SYSTEM,
        model=ctx.task.model or MODEL,
        max_tokens=8_000,
        output_config={"format": {"type": "json_schema", "schema": schema_of(Review)}},
    )
    if answer.stop_reason == "refusal":
        raise agentflow.Fail("Claude would not look at this file", reason="refusal")
    try:
        return msgspec.json.decode(answer.text, type=Review)
    except msgspec.DecodeError as error:
        raise agentflow.Retry(f"no review ({answer.stop_reason}): {error}") from None


def changes_of(diff: str) -> list[Change]:
    """The files of a diff that have lines to look at."""
    changes = []
    for patch in re.split(r"^(?=diff --git )", diff, flags=re.MULTILINE):
        name = re.search(r"^\+\+\+ b/(.*)$", patch, re.MULTILINE)
        if name and len(patch) <= LONGEST:
            changes.append(Change(name[1].strip(), patch))
    return changes


async def main(changes: list[Change]) -> int:
    """Submit a task a file, collect the remarks, print them."""
    remarks: list[tuple[str, Remark]] = []
    failed = 0
    async with agentflow.connect() as client:
        tasks = [{"kind": "review", "params": msgspec.structs.asdict(change)} for change in changes]
        async for result in client.map(tasks, queue="reviews"):
            assert result.index is not None
            path = changes[result.index].path
            if result.ok:
                review = msgspec.convert(result.value, Review)
                remarks += [(path, remark) for remark in review.remarks]
            else:
                failed += 1
                print(f"{path}: {result.failure()}", file=sys.stderr)
    order = ["bug", "risk", "style"]
    remarks.sort(key=lambda one: (order.index(one[1].severity), one[0], one[1].line))
    for path, remark in remarks:
        print(f"{path}:{remark.line}: {remark.severity}: {remark.text}")
    print(f"{len(changes)} files, {len(remarks)} remarks, {failed} not reviewed", file=sys.stderr)
    return 1 if failed or any(one.severity == "bug" for _, one in remarks) else 0


if __name__ == "__main__":
    diff = subprocess.run(
        ["git", "diff", "--no-color", "--no-ext-diff", *sys.argv[1:]],
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        check=True,
    )
    sys.exit(asyncio.run(main(changes_of(diff.stdout))))
