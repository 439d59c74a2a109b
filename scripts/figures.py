"""Write the tables of figures from the files of results, and nothing by hand.

A result file says what was measured, where and on which commit::

    {"name": "store", "commit": "abc1234", "machine": "4 cores, 24 GiB", "seed": 7,
     "figures": [{"what": "durable accepts, 8 clients", "value": 1234.5, "unit": "jobs/s",
                  "budget": ">= 1000"}]}

Figures without a ``budget`` explain others and stay in the files. So do files without ``figures``: raw data.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"
PAGES = {
    ROOT / "README.md": RESULTS,
    DOCS / "reliability.md": RESULTS / "torture",
    DOCS / "operations" / "security.md": RESULTS / "fuzz",
}
HEADLINE = re.compile(r"(<!-- headline: .*? -->\n).*?(<!-- end of headline -->)", re.DOTALL)
BLOCK = re.compile(r"(<!-- figures: .*? -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def rounded(value: float) -> str:
    """A number as people read it: whole from a thousand on, else with four digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def table(results: list[dict[str, Any]]) -> str:
    """The figures that have a budget, of all results, as one Markdown table in the order of the files."""
    rows = [
        f"| {figure['what']} | {rounded(figure['value'])} {figure['unit']} | {figure['budget']} "
        f"| {result['machine']} | `{result['commit'][:7]}` |"
        for result in results
        for figure in result.get("figures", ())
        if "budget" in figure
    ]
    if not rows:
        return "None yet.\n"
    return "\n".join(["| what | measured | budget | machine | commit |", "|---|---|---|---|---|", *rows, ""])


def headline() -> str:
    """What all trials by fire and all simulated histories add up to, in a sentence."""
    done = [_read(file)["figures"] for file in sorted((RESULTS / "torture").glob("*.json"))]
    figures = [figure for each in done for figure in each]

    def total(*begins: str) -> str:
        return rounded(sum(figure["value"] for figure in figures if figure["what"].startswith(begins)))

    real = total("jobs acknowledged over")
    return (
        f"**{real} acknowledged jobs** while heads, agents, shims and databases were killed and cut off, and "
        f"{total('jobs acknowledged, ')} more under {total('faults, ')} simulated faults: "
        f"**promises broken: {total('promises broken', 'seeds under which a promise')}**.\n"
    )


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def filled(page: str, results: list[dict[str, Any]]) -> str:
    """The page with its figures replaced."""
    told = HEADLINE.sub(lambda found: found[1] + headline() + found[2], page)
    return BLOCK.sub(lambda found: found[1] + table(results) + found[2], told)


def fresh(page: Path, results: Path) -> str:
    """What a page should say."""
    files = sorted(results.glob("*.json"))
    return filled(page.read_text("utf-8"), [_read(file) for file in files])


def main() -> int:
    """Rewrite the pages; with ``--check`` only say which are not up to date."""
    stale = [page for page, results in PAGES.items() if fresh(page, results) != page.read_text("utf-8")]
    if "--check" in sys.argv[1:]:
        for page in stale:
            sys.stderr.write(f"{page.name} does not show {PAGES[page].name}: run 'make docs' and commit it\n")
        return len(stale)
    for page in stale:
        page.write_text(fresh(page, PAGES[page]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
