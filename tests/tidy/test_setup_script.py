"""``scripts/setup`` on machines that lack something: it fetches what it may, else it says what to ask for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYTHON = """#!/bin/sh
echo "python $*" >> "$CALLS"
case "$*" in
    --version) echo "Python 3.99" ;;
    *version_info*) exit "$TOO_OLD" ;;
    *ensurepip*) [ -e "$ENSUREPIP" ] ;;
    "-m venv"*) shift 3; mkdir -p "$1/bin"; cp "$0" "$1/bin/python" ;;
    "-m pip --version") [ -e "$ENSUREPIP" ] ;;
esac
"""
APT = """#!/bin/sh
echo "apt-get $*" >> "$CALLS"
case "$*" in *python3-venv*) touch "$ENSUREPIP" ;; esac
"""


@pytest.fixture
def machine(tmp_path):
    """A machine of stand-ins: run ``scripts/setup`` as ``uid``, return (exit code, output, calls)."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "mkdir", "cp", "date", "touch"):
        (tools / name).symlink_to(shutil.which(name))

    def write(name, text):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def run(*, uid, ensurepip=True, too_old=0, compiler=True):
        calls, marker = tmp_path / "calls", tmp_path / "ensurepip"
        calls.touch()
        if ensurepip:
            marker.touch()
        write("python3", PYTHON)
        write("apt-get", APT)
        write("id", f"#!/bin/sh\necho {uid}\n")
        for tool in ("faketime", "ip", "strace", "openssl", *(("gcc",) if compiler else ())):
            write(tool, "#!/bin/sh\n")
        done = subprocess.run(
            ["sh", ROOT / "scripts/setup", tmp_path / "venv"],
            env={"PATH": str(tools), "CALLS": str(calls), "ENSUREPIP": str(marker), "TOO_OLD": str(too_old)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        is_ready = (tmp_path / "venv/ready").exists()
        assert is_ready == (done.returncode == 0), done.stdout
        return done.returncode, done.stdout, calls.read_text()

    return run


def test_root_gets_the_missing_venv_package_installed(machine):
    code, output, calls = machine(uid=0, ensurepip=False)
    assert code == 0, output
    assert "apt-get install" in calls
    assert "python3-venv" in calls
    assert "pip install" in calls


def test_a_user_is_told_which_package_to_ask_for(machine):
    code, output, calls = machine(uid=1000, ensurepip=False)
    assert code != 0
    assert "sudo apt-get install python3-venv" in output
    assert "apt-get" not in calls


def test_an_old_python_is_refused_before_anything_is_made(machine):
    code, output, calls = machine(uid=0, too_old=1)
    assert code != 0
    assert "3.11" in output
    assert "venv" not in calls.replace("import ensurepip, venv", "")


def test_a_missing_compiler_does_not_stop_a_user(machine):
    code, output, _ = machine(uid=1000, compiler=False)
    assert code == 0
    assert "sudo apt-get install gcc libc6-dev" in output


def test_nothing_is_installed_on_the_system_when_nothing_is_missing(machine):
    code, output, calls = machine(uid=0)
    assert code == 0, output
    assert "apt-get" not in calls
