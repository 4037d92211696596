"""Summarise the text files of a folder: a task a file.

    agentflow up                                                        # in one terminal
    agentflow worker examples.summarise_folder:app --queues summaries   # in another, or in several
    python examples/summarise_folder.py docs 40                         # FOLDER [WORDS]

The worker reads the files, so it must see the same folder. A task's id is made from the file's
content: run it again, and what has not changed comes from the log and costs nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path

import msgspec

import agentflow

SUFFIXES = {".md", ".py", ".rst", ".txt"}
PART = 60_000
"""Characters of a file that one request gets."""

app = agentflow.App()


class Summary(msgspec.Struct):
    """What a task returns."""

    text: str
    parts: int


@app.task(kind="summarise", retries=3, timeout=300)
async def summarise(ctx: agentflow.Context, path: Path, words: int = 50) -> Summary:
    """Summarise one file; a long one part by part, and then the parts."""
    try:
        content = await asyncio.to_thread(path.read_text, errors="replace")
    except OSError as error:
        raise agentflow.Fail(f"{path} cannot be read: {error.strerror}") from None
    if not content.strip():
        return Summary("(empty)", 0)
    parts = [content[start : start + PART] for start in range(0, len(content), PART)]
    system = f"Summarise what you are given in at most {words} words. Answer with the summary only."
    said: list[str] = []
    for number, part in enumerate(parts, start=1):
        ctx.progress((number - 1) / len(parts), f"part {number} of {len(parts)}")
        said.append((await ctx.claude(f"{path.name}:\n\n{part}", system=system)).text)
    if len(said) > 1:
        joined = "\n\n".join(said)
        said = [(await ctx.claude(f"{path.name}, part by part:\n\n{joined}", system=system)).text]
    ctx.log.info("%s: %d parts", path, len(parts))
    return Summary(said[0], len(parts))


def task_of(path: Path, words: int) -> dict[str, object]:
    """The task for a file."""
    digest = hashlib.sha256(f"{path}:{words}:".encode() + path.read_bytes()).hexdigest()[:16]
    return {
        "id": f"summary-{digest}",
        "kind": "summarise",
        "params": {"path": str(path), "words": words},
    }


async def main(folder: str, words: str = "50") -> int:
    """Submit a task a file, print each result as it comes."""
    files = [
        path
        for path in sorted(Path(folder).resolve().rglob("*"))
        if path.suffix in SUFFIXES and path.is_file()
    ]
    cost, failed = 0.0, 0
    async with agentflow.connect() as client:
        tasks = (task_of(path, int(words)) for path in files)
        async for result in client.map(tasks, queue="summaries"):
            assert result.index is not None
            name = files[result.index].name
            cost += result.cost_usd or 0.0
            if result.ok:
                print(f"{name}: {result.value['text']}\n")
            else:
                failed += 1
                print(f"{name}: {result.failure()}\n", file=sys.stderr)
    print(f"{len(files) - failed} of {len(files)} files, ${cost:.4f}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
