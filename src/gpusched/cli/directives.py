"""``#SBATCH`` and ``#GPUSCHED`` lines of a script, read with the table of the command line's options."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import click

from gpusched.cli.draft import Draft, refuse
from gpusched.cli.options import SPELLINGS, did_you_mean, draft_of, job_options

_MARKS = ("#GPUSCHED", "#SBATCH")

HARMLESS = {
    "--output": "logs are kept by gpusched; see `gpusched logs`",
    "--error": "logs are kept by gpusched; see `gpusched logs`",
    "--open-mode": "logs are kept by gpusched; see `gpusched logs`",
    "--mail-type": "gpusched sends no mail",
    "--mail-user": "gpusched sends no mail",
    "--export": "nothing of your shell is passed on; use --env NAME",
    "--wckey": "gpusched has no workload keys; use --account",
    "--parsable": "give it on the command line",
    "--verbose": "it has no effect",
    "--quiet": "it has no effect",
}
"""Directives that can be left out without changing what runs: they warn, all others must be understood."""

_SHORT = {"--output": "-o", "--error": "-e", "--verbose": "-v", "--quiet": "-Q"}
_FLAGS = {"--parsable", "--verbose", "--quiet"}


@dataclass(frozen=True, slots=True)
class Directives:
    """What a script asks for, and what of it is not used (one sentence each)."""

    draft: Draft
    warnings: tuple[str, ...]


def read_directives(script: str, name: str) -> Directives:
    """Read a script's directives; later lines win, and #GPUSCHED wins over #SBATCH.

    Raises:
        InvalidSpec: An unknown directive or one that does not parse; names the line.
    """
    drafts: dict[str, Draft] = {mark: Draft(origin=name) for mark in _MARKS}
    warnings: list[str] = []
    for line, mark, text, is_late in _lines(script):
        if is_late:
            warnings.append(f"{name}:{line}: {mark} after the first command is not read; move it up")
            continue
        draft, unused = _parse(f"{name}:{line}: {mark}", text)
        drafts[mark] = drafts[mark].updated(draft)
        warnings.extend(unused)
    return Directives(drafts["#SBATCH"].updated(drafts["#GPUSCHED"]), tuple(warnings))


def _lines(script: str) -> Iterator[tuple[int, str, str, bool]]:
    """(line number, mark, the rest of the line, whether a command came before)."""
    is_late = False
    for number, line in enumerate(script.splitlines(), 1):
        mark = next((mark for mark in _MARKS if line.startswith(mark)), None)
        if mark is not None and line[len(mark) : len(mark) + 1] in {" ", "\t"}:
            yield number, mark, line[len(mark) :].strip(), is_late
        elif line.strip() and not line.lstrip().startswith("#"):
            is_late = True


def _parse(place: str, text: str) -> tuple[Draft, list[str]]:
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise refuse(place, f"{str(error).lower()}; check the quotes") from None
    command = _command()
    try:
        context = command.make_context("directive", words, resilient_parsing=False)
    except click.NoSuchOption as error:
        near = did_you_mean(error.option_name, SPELLINGS)
        raise refuse(f"{place} {error.option_name}", f"unknown or unsupported directive{near}") from None
    except click.UsageError as error:
        raise refuse(place, error.format_message().rstrip(".")) from None
    params = dict(context.params)
    unused = [
        f"{place} {spelling} is not used: {why}"
        for spelling, why in HARMLESS.items()
        if params.pop(_harmless_name(spelling)) not in (None, False)
    ]
    return draft_of(params, place), unused


def _command() -> click.Command:
    harmless = [
        click.Option(
            [*([_SHORT[word]] if word in _SHORT else []), word, _harmless_name(word)],
            is_flag=word in _FLAGS,
        )
        for word in HARMLESS
    ]
    return click.Command("directive", params=[*job_options(), *harmless], add_help_option=False)


def _harmless_name(spelling: str) -> str:
    return "unused_" + spelling.removeprefix("--").replace("-", "_")
