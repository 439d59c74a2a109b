"""``gpusched completion``: the script that a shell reads once."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL: eval "$(gpusched completion bash)"."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} has no completion here")
    click.echo(kind(ctx.find_root().command, {}, "gpusched", "_GPUSCHED_COMPLETE").source())
