"""Write the tables in docs/scheduling.md from benchmarks/results, nothing by hand.

Each ``fgd_*.json`` is what ``python -m benchmarks.fgd --json`` printed for one trace and one policy;
``decisions.json`` what ``python -m benchmarks decisions`` left.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scheduling.md"
PACKING = re.compile(r"(<!-- packing: .*? -->\n).*?(<!-- end of packing -->)", re.DOTALL)
SPEED = re.compile(r"(<!-- speed: .*? -->\n).*?(<!-- end of speed -->)", re.DOTALL)
POLICIES = ("gpuclustering", "dotprod", "gpupacking", "bestfit", "fgd", "learnt", "ours")
TRACES = ("default", "cpu250", "gpushare100", "multigpu50", "gpuspec33")


def tables(results: list[dict[str, Any]]) -> str:
    """Mean allocation at 100 and 130 % arrival, by trace and policy; then what a decision costs."""
    cells = {(each["trace"], each["policy"]): each for each in results}
    head = f"| trace | {' | '.join(POLICIES)} |\n|---|{'---|' * len(POLICIES)}\n"
    blocks = []
    for arrival in ("130", "100"):
        rows = "".join(
            f"| {trace} | {' | '.join(_percent(cells.get((trace, name)), arrival) for name in POLICIES)} |\n"
            for trace in TRACES
        )
        blocks.append(f"GPUs in use, percent, at {arrival} % arrival:\n\n{head}{rows}")
    ours = [each for each in results if each["policy"] == "ours"]
    speeds = ", ".join(f"{each['trace']} {each['decisions_per_cpu_s']:,}" for each in ours)
    commits = ", ".join(f"`{commit}`" for commit in sorted({each["commit"][:7] for each in results}))
    facts = ours[0]["machine_facts"] if ours else {}
    blocks.append(
        f"Decisions of ours per second of CPU time: {speeds}.\n\n"
        f"Means over {len(ours[0]['seeds']) if ours else 0} orders. "
        f"{facts.get('cpu')}, {facts.get('cores')} cores; commits {commits}.\n"
    )
    return "\n".join(blocks)


def speed(decisions: dict[str, Any] | None) -> str:
    """What single decisions cost, by the size of the cluster."""
    if decisions is None:
        return "Not measured yet.\n"
    rows = "".join(f"| {f['what']} | {f['value']:,.4g} {f['unit']} |\n" for f in decisions["figures"])
    facts = decisions["machine_facts"]
    return (
        f"| what | measured |\n|---|---|\n{rows}\n"
        f"{facts['cpu']}, {facts['cores']} cores, {facts['busy_before_percent']:.0f} % busy before; "
        f"commit `{decisions['commit'][:7]}`.\n"
    )


def filled(page: str, results: list[dict[str, Any]], decisions: dict[str, Any] | None) -> str:
    """The page with its tables replaced."""
    page = PACKING.sub(lambda found: found[1] + tables(results) + found[2], page)
    return SPEED.sub(lambda found: found[1] + speed(decisions) + found[2], page)


def main() -> int:
    """Rewrite the page; with ``--check`` only say whether it is up to date."""
    files = sorted((ROOT / "benchmarks" / "results").glob("fgd_*.json"))
    at = ROOT / "benchmarks" / "results" / "decisions.json"
    decisions = json.loads(at.read_text(encoding="utf-8")) if at.exists() else None
    page = PAGE.read_text(encoding="utf-8")
    fresh = filled(page, [json.loads(file.read_text(encoding="utf-8")) for file in files], decisions)
    if "--check" in sys.argv[1:]:
        if fresh != page:
            sys.stderr.write(f"{PAGE.name} does not show the results: run scripts/packing_table.py\n")
        return fresh != page
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


def _percent(result: dict[str, Any] | None, arrival: str) -> str:
    if result is None or (value := result["allocation_percent"][arrival]) is None:
        return ""
    return f"**{value:.2f}**" if result["policy"] == "ours" else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
