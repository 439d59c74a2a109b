"""The documentation points at things that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in {"build", "dist"} for part in path.relative_to(ROOT).parts)
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as web hosts derive them: lower case, hyphens for blanks."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    dead = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            dead.append(target)
    assert not dead, f"{page.relative_to(ROOT)} links to what does not exist: {dead}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_commands_named_in_the_docs_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^ {4}|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets, f"{page.relative_to(ROOT)} names no such make target: {named - targets}"


def test_source_paths_named_in_the_docs_exist():
    missing = []
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        for path in re.findall(
            r"`((?:src|tests|proto|docs|examples|scripts)/[\w./-]+)`", page.read_text(encoding="utf-8")
        ):
            if not (ROOT / path).exists():
                missing.append(f"{page.relative_to(ROOT)}: {path}")
    assert not missing, "the docs name files that do not exist:\n" + "\n".join(missing)


def test_every_event_and_command_is_in_the_architecture_page():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    text = "".join(
        (ROOT / f"src/gpusched/domain/{name}.py").read_text(encoding="utf-8")
        for name in ("events", "commands")
    )
    missing = [name for name in re.findall(r"^class (\w+)", text, re.MULTILINE) if f"`{name}`" not in page]
    assert not missing, f"docs/architecture.md does not speak of {missing}"


def test_make_help_lists_every_public_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"setup", "demo", "test", "check", "bench", "proto", "docs", "clean"} <= {
        line.split()[0] for line in shown.splitlines()
    }


def test_the_figures_in_the_readme_are_those_that_were_measured():
    done = subprocess.run(
        [sys.executable, "scripts/figures.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
