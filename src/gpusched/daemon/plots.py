"""Plots of simulations: what waited, what was in use and how fragmented the rest was, over time.

Drawn by matplotlib, which only the extra ``plots`` installs: it is looked for when a plot is asked for.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from gpusched.daemon.simulated import Outcome
from gpusched.domain.errors import InvalidSpec, Violation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = (
    ("jobs_waiting", "jobs waiting"),
    ("gpus_held", "GPUs in use"),
    ("fragmentation_percent", "fragmented, % of the free"),
)
_HIDDEN = ("refused_jobs", "account_shares_percent")
_STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2em auto;max-width:62em}"
    "table{border-collapse:collapse}td,th{padding:.15em 1em .15em 0;text-align:right}"
    "td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"
)


def save_png(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Draw the outcomes over each other, each under its name.

    Raises:
        InvalidSpec: matplotlib is not installed, or the file can't be written.
    """
    figure = _figure(outcomes, "--png")
    try:
        # Without a date or a version in it, equal outcomes give equal files.
        figure.savefig(path, format="png", dpi=120, metadata={"Software": None})
    except OSError as error:
        raise _unwritable(path, error) from error


def save_html(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Write one page with plots and figures that loads nothing from anywhere.

    Raises:
        InvalidSpec: matplotlib is not installed, or the file can't be written.
    """
    drawn = StringIO()
    figure = _figure(outcomes, "--html")
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]  # what stands before it names a DTD on the network
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>gpusched simulate</title>"
        f"<style>{_STYLE}</style><h1>gpusched simulate</h1>{_table(outcomes)}{svg}</html>\n"
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def _figure(outcomes: Mapping[str, Outcome], option: str) -> Figure:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        message = "needs matplotlib: install it with `pip install 'gpusched[plots]'`"
        raise InvalidSpec((Violation(option, message),)) from None
    mpl.rcParams["svg.hashsalt"] = "gpusched"  # ids in the SVG are then the same every time
    figure = Figure(figsize=(10, 8), layout="constrained")
    axes = figure.subplots(len(_PANELS), 1, sharex=True)
    for axis, (column, label) in zip(axes, _PANELS, strict=True):
        for name, outcome in outcomes.items():
            columns = outcome.columns()
            hours = [(time_s or 0.0) / 3600 for time_s in columns["time_s"]]
            values = [float("nan") if value is None else value for value in columns[column]]
            axis.step(hours, values, where="post", label=name, linewidth=1)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("hours since the first submission")
    axes[0].legend(loc="upper right")
    return figure


def _table(outcomes: Mapping[str, Outcome]) -> str:
    plain = {name: outcome.summary.as_json() for name, outcome in outcomes.items()}
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in plain)
    rows = []
    for figure in next(iter(plain.values())):
        if figure not in _HIDDEN:
            cells = "".join(f"<td>{_cell(each[figure])}</td>" for each in plain.values())
            rows.append(f"<tr><td>{html.escape(figure)}</td>{cells}</tr>")
    for account in sorted({name for each in plain.values() for name in each["account_shares_percent"]}):
        shares = (each["account_shares_percent"].get(account) for each in plain.values())
        cells = "".join(f"<td>{_cell(share)}</td>" for share in shares)
        rows.append(f"<tr><td>share of {html.escape(account)}, percent</td>{cells}</tr>")
    return f"<table><tr><th></th>{heads}</tr>{''.join(rows)}</table>"


def _cell(value: float | str | None) -> str:
    if value is None:
        return "–"
    return html.escape(value) if isinstance(value, str) else f"{value:,}"


def _unwritable(path: Path, error: OSError) -> InvalidSpec:
    return InvalidSpec((Violation(str(path), f"{error.strerror}: name a file that can be written"),))
