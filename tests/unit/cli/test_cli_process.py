"""The program as a process: what it loads, how pipes end, and the pages made from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpusched.cli.reference import reference

ROOT = Path(__file__).parents[3]


def gpusched(*argv: str, **more) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, *argv], env=env, timeout=60, check=False, **more)


def test_the_version_is_printed_without_loading_what_it_does_not_need():
    done = gpusched("-X", "importtime", "-m", "gpusched", "--version", capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("gpusched ")
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & {"rich", "yaml", "pydantic", "grpc", "google", "numpy", "sqlalchemy"}


def test_help_lists_every_command_without_loading_any():
    script = "import sys; from gpusched.cli.main import main; main(['--help'])"
    script += "; print(*sys.modules, file=sys.stderr)"
    done = gpusched("-c", script, capture_output=True, text=True)
    for name in (
        "job",
        "submit",
        "run",
        "ps",
        "logs",
        "cancel",
        "explain",
        "nodes",
        "cost",
        "top",
        "completion",
    ):
        assert f"\n  {name} " in done.stdout
    assert not {"rich", "yaml", "pydantic", "grpc"} & set(done.stderr.split())


def test_a_reader_that_has_gone_is_met_with_silence():
    reading, writing = os.pipe()
    os.close(reading)
    done = gpusched("-m", "gpusched", "job", "schema", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_narrow_locale_does_not_fail_a_message():
    env_argv = ("-c", "from gpusched.cli.main import main; raise SystemExit(main(['job', 'show', 'größe']))")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, *env_argv], env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert b"gr\\xf6\\xdfe" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell, cli):
    said = cli("completion", shell)
    assert said.code == 0
    assert "_GPUSCHED_COMPLETE" in said.out


def test_no_command_at_all_shows_the_help_and_is_wrong_usage(cli):
    said = cli()
    assert said.code == 2
    assert "Commands:" in said.err


def test_the_reference_page_is_what_the_commands_say():
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert page == reference(), "run `python -m gpusched.cli.reference > docs/reference/cli.md`"
