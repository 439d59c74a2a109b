"""Every command line shown in the documentation exists, with the options it is shown with."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import click
import pytest

from gpusched.cli.main import root

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/operations").glob("*.md"))
COMMAND_LINE = re.compile(r"^ {4}(gpusched [^#\n]*?)(?: &)?(?: +#.*)?$", re.MULTILINE)
LINES = sorted({line for page in PAGES for line in COMMAND_LINE.findall(page.read_text(encoding="utf-8"))})
PROCESSES = {"up", "head", "agent", "token"}  # found through entry points, so only where installed


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_in_the_docs_parses(line):
    command: click.Command = root
    context, words = click.Context(root, info_name="gpusched", **root.context_settings), shlex.split(line)[1:]
    while isinstance(command, click.Group):
        word = words.pop(0)
        if command is root and word in PROCESSES:
            found = getattr(import_module("gpusched.daemon.commands"), word)
        else:
            found = command.get_command(context, word)
        assert found is not None, f"no such command: {word}"
        command, context = found, click.Context(found, parent=context, info_name=word)
    command.make_parser(context).parse_args(words)  # raises for an option that does not exist


def test_the_docs_show_the_commands_that_matter():
    shown = {line.split()[1] for line in LINES}
    assert {"up", "submit", "run", "ps", "logs", "cancel", "explain", "nodes", "cost", "top"} <= shown
