"""Write the table of figures in README.md from benchmarks/results/*.json, and nothing by hand.

A result file says what was measured, where and on which commit::

    {"name": "store", "commit": "abc1234", "machine": "4 cores, 24 GiB", "seed": 7,
     "figures": [{"what": "durable accepts, 8 clients", "value": 1234.5, "unit": "jobs/s",
                  "budget": ">= 1000"}]}

``budget`` may be absent. Files without ``figures`` are left alone: a benchmark may keep raw data beside.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- figures: .*? -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def table(results: list[dict[str, Any]]) -> str:
    """The figures of all results as one Markdown table, in the order of the files."""
    rows = [
        f"| {figure['what']} | {figure['value']:,.4g} {figure['unit']} | {figure.get('budget', '')} "
        f"| {result['machine']} | `{result['commit'][:7]}` |"
        for result in results
        for figure in result.get("figures", ())
    ]
    if not rows:
        return "None yet.\n"
    return "\n".join(["| what | measured | budget | machine | commit |", "|---|---|---|---|---|", *rows, ""])


def filled(page: str, results: list[dict[str, Any]]) -> str:
    """The page with its block of figures replaced."""
    return BLOCK.sub(lambda found: found[1] + table(results) + found[2], page)


def main() -> int:
    """Rewrite README.md; with ``--check`` only say whether it is up to date."""
    readme = ROOT / "README.md"
    files = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    page = readme.read_text(encoding="utf-8")
    fresh = filled(page, [json.loads(file.read_text(encoding="utf-8")) for file in files])
    if "--check" in sys.argv[1:]:
        if fresh != page:
            sys.stderr.write("README.md does not show benchmarks/results: run 'make docs' and commit it\n")
        return fresh != page
    readme.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
