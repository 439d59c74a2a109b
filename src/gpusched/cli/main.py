"""The entry point: which command lives where, and how every failure ends.

Commands are imported when they are called, so ``gpusched --version`` loads click and nothing else.
``up``, ``head``, ``agent``, ``token`` and ``simulate`` belong to a package above this one; they are found
through the entry point group ``gpusched.commands``.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

import gpusched
from gpusched.cli.exit_codes import ExitCode, exit_code_of
from gpusched.cli.session import ClientLike, Session
from gpusched.domain.errors import (
    GpuschedError,
    InvalidSpec,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND_GROUP = "gpusched.commands"

COMMANDS: dict[str, tuple[str, str]] = {
    "job": ("gpusched.cli.job:job", "Submit, run, look at and control jobs."),
    "node": ("gpusched.cli.node:node", "Look at nodes; take them out of service and back."),
    "health": ("gpusched.cli.health:health", "What is wrong with nodes and devices, and what was done."),
    "topology": ("gpusched.cli.topology:topology", "How nodes hang together in the fabric."),
    "defrag": ("gpusched.cli.defrag:defrag", "Plan how to make room for a gang by moving jobs."),
    "report": ("gpusched.cli.report:report", "Usage and cost."),
    "top": ("gpusched.cli.top:top", "Watch nodes, devices and the queue live."),
    "submit": ("gpusched.cli.submit:submit", "Short for job submit."),
    "run": ("gpusched.cli.run:run", "Short for job run."),
    "ps": ("gpusched.cli.job:list_jobs", "Short for job list."),
    "logs": ("gpusched.cli.logs:logs", "Short for job logs."),
    "cancel": ("gpusched.cli.job:cancel", "Short for job cancel."),
    "explain": ("gpusched.cli.job:explain", "Short for job explain."),
    "nodes": ("gpusched.cli.node:list_nodes", "Short for node list."),
    "cost": ("gpusched.cli.report:cost", "Short for report cost."),
    "advise-checkpoint": (
        "gpusched.cli.advise:advise",
        "How often to write a checkpoint.",
    ),
    "completion": ("gpusched.cli.completion:completion", "Print the completion script of a shell."),
}
"""Name to (where it is, what it does): enough for ``--help`` without importing any."""

_KNOWN_PLUGINS = {
    "up": "Start a whole cluster on this machine.",
    "head": "Start the head.",
    "agent": "Start a node's agent.",
    "token": "Print a short-lived token of yours.",
    "ca": "The cluster's certificate authority: make, show, rotate, revoke.",
    "simulate": "Run a trace through the scheduler in virtual time.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, those of installed packages last."""
        return [*COMMANDS, *sorted(set(plugins()) - set(COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name in COMMANDS:
            module, _, attribute = COMMANDS[cmd_name][0].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        found = plugins().get(cmd_name)
        if found is None:
            return None
        loaded: click.Command = found.load()
        return loaded

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name where there is no such command."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            ctx.fail(f"no such command: {args[0]}" + (f"; did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._help_of(name)) for name in self.list_commands(ctx)])

    def _help_of(self, name: str) -> str:
        if name in COMMANDS:
            return COMMANDS[name][1]
        return _KNOWN_PLUGINS.get(name, f"See gpusched {name} --help.")


def plugins() -> dict[str, metadata.EntryPoint]:
    """Commands of packages above this one, by name."""
    return {point.name: point for point in metadata.entry_points(group=COMMAND_GROUP)}


def _show_version(ctx: click.Context, _param: click.Parameter, is_wanted: bool) -> None:
    if not is_wanted or ctx.resilient_parsing:
        return
    click.echo(f"gpusched {gpusched.__version__}")
    ctx.exit()


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version)
@click.option(
    "--head",
    "address",
    metavar="ADDRESS",
    help="The head, or several, separated by commas; default: $GPUSCHED_ADDRESS, else the local one.",
)
@click.pass_context
def root(ctx: click.Context, address: str | None) -> None:
    """Schedule and launch training on GPU clusters."""
    if ctx.obj is None:
        ctx.obj = Session(
            connect=lambda: _connect(address),
            now_us=lambda: time.time_ns() // 1000,
            cwd=_cwd,
            is_interactive=lambda: sys.stdin.isatty() and sys.stderr.isatty(),
        )
    ctx.call_on_close(ctx.obj.close)


def _connect(address: str | None) -> ClientLike:
    from gpusched.wire.client import Client

    return Client(address)


def _cwd() -> Path:
    """The current directory as the shell names it: ``$PWD`` keeps links that nodes may see and we resolve."""
    named, real = os.environ.get("PWD"), Path.cwd()
    return Path(named) if named and Path(named).is_absolute() and _is_same(Path(named), real) else real


def _is_same(named: Path, real: Path) -> bool:
    try:
        return named.samefile(real)
    except OSError:
        return False


def main(argv: Sequence[str] | None = None, *, session: Session | None = None) -> int:
    """Run one command and return its exit code. Never shows a traceback unless asked to.

    Args:
        argv: Without the program's name; None: of this process.
        session: What commands act on; None: the head that the options and the environment name.
    """
    # gRPC's own words would come before ours, for the same failure.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a narrow locale must not fail a listing
    try:
        result = root.main(args=argv, prog_name="gpusched", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (``| head``): say nothing, and keep the interpreter's own flush quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED  # as click says where the pipe breaks inside a command
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\n")
        return ExitCode.INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.INVALID
    except click.ClickException as error:
        _say(error.format_message(), _usage_hint(error))
        return ExitCode.INVALID
    except GpuschedError as error:
        if os.environ.get("GPUSCHED_TRACEBACK"):
            raise
        for line in _sentences(error):
            _say(line)
        return exit_code_of(error)
    except Exception as error:  # the top of the program: whatever it is, the user gets one line
        if os.environ.get("GPUSCHED_TRACEBACK"):
            raise
        _say(f"unexpected {type(error).__name__}: {error}", "a bug; GPUSCHED_TRACEBACK=1 shows where")
        return ExitCode.BROKEN
    return result if isinstance(result, int) else ExitCode.OK


def _sentences(error: GpuschedError) -> Iterator[str]:
    if isinstance(error, InvalidSpec):
        yield from (str(violation) for violation in error.violations)
    else:
        yield str(error) or type(error).__name__


def _usage_hint(error: click.ClickException) -> str | None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{context.command_path} --help" if context is not None else None


def _say(message: str, hint: str | None = None) -> None:
    from gpusched.cli.screen import note

    note(f"gpusched: error: {message}")
    if hint is not None:
        sys.stderr.write(f"hint: {hint}\n")
