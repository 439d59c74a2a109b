"""The placement cases of Kueue, KAI and HiveD, answered and judged.

``python -m benchmarks.topology_cases --cases F [F...] --json [--out FILE]`` prints one object last:
``{"cases", "met", "bettered", "failed": [names]}``. ``--out`` writes the answers by case id, as the
cases' FORMAT.md asks for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import commit
from benchmarks.topology import hived, kai, kueue
from benchmarks.topology.verdict import Verdict


def main(argv: Sequence[str] | None = None) -> int:
    """Answer every case of the files and judge it; returns 0 whatever the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, nargs="+", required=True, metavar="F")
    parser.add_argument("--json", action="store_true", help="nothing on stdout but the result, last")
    parser.add_argument("--out", type=Path, help="write our answers here, by case id")
    args = parser.parse_args(argv)
    answers: dict[str, Any] = {}
    verdicts: dict[str, Verdict] = {}
    by_file: dict[str, dict[str, int]] = {}
    for path in args.cases:
        found, judged = _run_file(json.loads(path.read_text()))
        by_file[path.stem] = {
            mark: sum(getattr(verdict, mark) for verdict in judged.values())
            for mark in ("met", "bettered", "equal")
        } | {"cases": len(judged)}
        answers |= found
        verdicts |= judged
    for name, verdict in verdicts.items():
        if not verdict.met:
            print(f"{name}: {verdict.why}", file=sys.stderr)
    if args.out is not None:
        args.out.write_text(json.dumps(answers, indent=1) + "\n")
    print(json.dumps(_summary(verdicts) | {"by_file": by_file, "commit": commit()}))
    return 0


def _run_file(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Verdict]]:
    cases = content["cases"]
    if "cluster" in content:
        cluster = content["cluster"]
        answers = hived.answer_all(cluster, cases)
        return answers, {case["id"]: hived.judge(cluster, case, answers[case["id"]]) for case in cases}
    system = kai if any("jobs" in case for case in cases) else kueue
    answers = {case["id"]: system.answer(case) for case in cases}
    return answers, {case["id"]: system.judge(case, answers[case["id"]]) for case in cases}


def _summary(verdicts: dict[str, Verdict]) -> dict[str, Any]:
    return {
        "cases": len(verdicts),
        "met": sum(verdict.met for verdict in verdicts.values()),
        "bettered": sum(verdict.bettered for verdict in verdicts.values()),
        "equal": sum(verdict.equal for verdict in verdicts.values()),
        "failed": [name for name, verdict in verdicts.items() if not verdict.met],
    }


if __name__ == "__main__":
    sys.exit(main())
