"""`agentflow completion`: what a shell needs to complete our commands and options."""

from __future__ import annotations

import sys
from typing import Final

import click

VARIABLE: Final = "_AGENTFLOW_COMPLETE"
"""Set by the script; `agentflow` then answers the shell and does nothing else."""
PROGRAM: Final = "agentflow"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash  echo 'eval "$(agentflow completion bash)"' >> ~/.bashrc
    zsh   echo 'eval "$(agentflow completion zsh)"' >> ~/.zshrc
    fish  agentflow completion fish > ~/.config/fish/completions/agentflow.fish

    Commands, options and file names are completed; ids and queues are not, as that would ask the
    server.
    """
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    assert completion is not None
    program = click.get_current_context().find_root().command
    sys.stdout.write(completion(program, {}, PROGRAM, VARIABLE).source())


def answer(group: click.Group, instruction: str) -> int:
    """Tell the shell what fits; whatever goes wrong, nobody wants a message behind a Tab."""
    from click.shell_completion import shell_complete

    try:
        return shell_complete(group, {}, PROGRAM, VARIABLE, instruction)
    except Exception:
        return 1
