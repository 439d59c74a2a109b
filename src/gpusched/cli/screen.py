"""Tables and lines on a terminal or in a pipe. All text of others is cleaned here, and only here."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

Cell = str | tuple[str, str]
"""Text, or text and its rich style."""


def clean(text: str) -> str:
    """Make control characters visible, so that a job's name cannot drive the terminal that shows it.

    C0, C1 and DEL become ``\\x1b``; format characters (which can reorder a line) and line
    separators become ``\\u202e``.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


STATE_STYLES = {
    "PENDING": "yellow",
    "CONFIGURING": "cyan",
    "RUNNING": "green",
    "COMPLETING": "cyan",
    "COMPLETED": "blue",
    "FAILED": "red",
    "CANCELLED": "magenta",
    "OPEN": "green",
    "CORDONED": "yellow",
    "DRAINING": "yellow",
    "DRAINED": "yellow",
    "DOWN": "red",
}


def state_cell(state: str) -> Cell:
    """A state in its colour."""
    return (state, STATE_STYLES.get(state, ""))


@dataclass(slots=True)
class Table:
    """Headings and rows. ``right`` names the columns whose cells are aligned to the right."""

    columns: tuple[str, ...]
    right: frozenset[str] = frozenset()
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Append a row, one cell per column."""
        self.rows.append(cells)

    def plain(self) -> str:
        """Aligned lines without colour or wrapping, for pipes and people who grep."""
        lines = [self.columns, *(tuple(_text(cell) for cell in row) for row in self.rows)]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(self._plain_line(line, widths) for line in lines)

    def _plain_line(self, line: Sequence[str], widths: Sequence[int]) -> str:
        parts = []
        for name, text, width in zip(self.columns, line, widths, strict=True):
            gap = " " * (width - cell_len(text))
            parts.append(gap + text if name in self.right else text + gap)
        return "  ".join(parts).rstrip()

    def rich(self) -> RichTable:
        """The same for a terminal."""
        table = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for name in self.columns:
            table.add_column(name, justify="right" if name in self.right else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(as_text(cell) for cell in row))
        return table


def _text(cell: Cell) -> str:
    return clean(cell if isinstance(cell, str) else cell[0])


def as_text(cell: Cell) -> Text:
    """A cell as rich text: cleaned, and never read as markup."""
    return Text(_text(cell), style="" if isinstance(cell, str) else cell[1])


def stdout_console() -> Console:
    """A console on the present standard output."""
    return Console(file=sys.stdout, highlight=False, markup=False)


def print_table(table: Table) -> None:
    """Write a table: rich on a terminal, plain in a pipe."""
    console = stdout_console()
    if console.is_terminal:
        console.print(table.rich())
    else:
        sys.stdout.write(table.plain() + "\n")


def print_fields(fields: Iterable[tuple[str, Cell]]) -> None:
    """Write ``name  value`` lines, names padded to one width; further lines of a value stand below it."""
    given = list(fields)
    width = max((len(name) for name, _ in given), default=0)
    for name, cell in given:
        text, style = (cell, "") if isinstance(cell, str) else cell
        for label, line in zip_longest([name], text.split("\n"), fillvalue=""):
            print_line(f"{label:<{width}}  ", (line, style))


def print_line(*cells: Cell) -> None:
    """Write one unwrapped line of cells, coloured on a terminal."""
    console = stdout_console()
    if console.is_terminal:
        console.print(Text.assemble(*(as_text(cell) for cell in cells)), soft_wrap=True)
    else:
        sys.stdout.write("".join(_text(cell) for cell in cells).rstrip() + "\n")


def print_json(value: object) -> None:
    """Write JSON, indented. It is ASCII, so it drives no terminal and passes any locale."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def note(text: str) -> None:
    """Say something beside the output, on standard error; only newlines break lines."""
    sys.stderr.write("\n".join(map(clean, text.split("\n"))) + "\n")
    sys.stderr.flush()


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error while the block runs, if that is a terminal.

    Yields:
        What to call with the number that is done so far.
    """
    console = Console(file=sys.stderr, highlight=False, markup=False)
    if not console.is_terminal:
        yield lambda done: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(clean(label), total=total)
        yield lambda done: bar.update(task, completed=done)
