"""The command line. `main` is the program; a command is imported when it is called.

`agentflow --help` must not wait for nats-py or a terminal library, so the group knows its commands
from a table: where each one is, and what the list of commands says about it.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from agentflow.errors import AgentFlowError
from agentflow.version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PIPE_CLOSED: Final = 141
INTERRUPTED: Final = 130

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("run", "Run all tasks of a file and keep their results."),
    "cache": ("cache", "Show, bound or prune the answers that `run --cache` keeps."),
    "up": ("up", "Start NATS, a master and workers on this machine."),
    "tui": ("tui", "Open the dashboard."),
    "jobs": ("jobs", "List the jobs: how far, what they cost, what they wait for."),
    "results": ("results", "Write the results of a job again, from the log."),
    "wait": ("wait", "Wait until a job, or all with a label, have ended."),
    "withdraw": ("withdraw", "Take back what waits of a job."),
    "submit": ("submit", "Put a task into a queue."),
    "get": ("get", "Show a task and its result."),
    "list": ("listing", "List tasks, newest first."),
    "cancel": ("cancel", "End tasks that have not ended."),
    "retry": ("retry", "Run failed tasks again."),
    "dead": ("dead", "Failed tasks: list, group, retry, drop."),
    "batches": ("batches", "Batches at half price: list, show, cancel."),
    "why": ("why", "Say why a task waits."),
    "limits": ("limits", "Show rate limits: what is used, and who waits."),
    "pause": ("pause", "Start nothing of a queue or kind."),
    "resume": ("resume", "Lift a pause, or open a closed pool."),
    "lane": ("lane", "Share a queue's workers among tenants."),
    "budget": ("budget", "Limit what a queue, pool, label or all may cost."),
    "costs": ("costs", "Show what tasks have cost, by queue, label, model or day."),
    "drain": ("drain", "Let a worker finish what it runs, and exit."),
    "watch": ("watch", "Show what happens as it happens."),
    "workers": ("workers", "List the workers."),
    "stats": ("stats", "Show queues, states, tokens and cost."),
    "gateway": ("gateway", "Serve HTTP, live events and the web page."),
    "web": ("web", "Open the web page, logged in."),
    "token": ("token", "Tokens for the gateway: create, list, revoke."),
    "mcp": ("mcp", "Let an agent look at the stack, and operate it."),
    "master": ("master", "Run a master."),
    "worker": ("worker", "Run a worker."),
    "simulator": ("simulator", "Serve a simulated Messages API."),
    "logs": ("logs", "Show what a local stack has logged."),
    "doctor": ("doctor", "Check this machine and the NATS server."),
    "health": ("health", "Is the server there, and does this host beat?"),
    "verify": ("verify", "Prove that no task was lost or ended twice."),
    "env": ("env", "Print how other programs reach the local stack."),
    "streams": ("streams", "Show, compare or repair the streams."),
    "completion": ("completion", "Print a shell's completion script."),
}
"""Name: module in cli/commands, one sentence."""


class Commands(click.Group):
    """The group; loads a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = f"agentflow.cli.commands.{entry[0]}"
        try:
            command = importlib.import_module(module).command
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise AgentFlowError(
                f"`agentflow {cmd_name}` is not part of this installation"
            ) from error
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        wrong = args and args[0] not in COMMANDS and not args[0].startswith("-")
        if wrong and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], COMMANDS, 1, cutoff=0.6)
            meant = f"did you mean {near[0]}?" if near else "`agentflow --help` lists them"
            raise click.UsageError(f"there is no command {args[0][:40]!r}; {meant}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # As above; click's own asks every command for its help.
        from click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=text)
            for name, (_, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # click would load every command to ask for its help.
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="agentflow")
@click.option("--utc", is_flag=True, help="Times in UTC. [default: in this machine's zone]")
def cli(utc: bool) -> None:
    """Run thousands of Claude tasks on your own machines, over NATS JetStream."""
    if utc:
        # What this process and its children print; nothing is stored in a zone.
        os.environ["TZ"] = "UTC"
        time.tzset()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Whatever happens, no traceback is shown."""
    if arguments is None and (instruction := os.environ.get("_AGENTFLOW_COMPLETE")):
        from agentflow.cli.commands import completion

        return completion.answer(cli, instruction)
    # Not click's own main(): it ends with 1 when the reader of a pipe leaves, as if we had failed.
    try:
        # Its import is for those who need it: `agentflow --help` must not wait.
        if any(name.endswith("_FILE") for name in os.environ):
            from agentflow.config import read_secret_files

            read_secret_files(os.environ)
        with cli.make_context(
            "agentflow", list(sys.argv[1:] if arguments is None else arguments)
        ) as context:
            result = cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as wish:
        return wish.exit_code
    except SystemExit as wish:
        return wish.code if isinstance(wish.code, int) else 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return PIPE_CLOSED
    except AgentFlowError as error:
        return _report(error, str(error), error.exit_code)
    except Exception as error:
        text = f"unexpected {type(error).__name__}: {error} (AGENTFLOW_DEBUG=1 shows where)"
        return _report(error, text, 1)
    return result if isinstance(result, int) else 0


def _report(error: Exception, text: str, code: int) -> int:
    from agentflow.views.display import safe

    if os.environ.get("AGENTFLOW_DEBUG"):
        import traceback

        traceback.print_exception(error)
    else:
        click.echo(f"agentflow: {safe(text)}", err=True)
    return code


def _forget_stdout() -> None:
    """Whoever read stdout is gone; writing at exit would complain once more."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
