"""What `pip install` brings is all that a cluster needs: the wheel, away from the checkout it came from."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from gpusched_cli import gpusched
from live import output, shell

from benchmarks.cluster import Head, running_agents, running_head

ROOT = Path(__file__).parents[3]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files as an installer lays them out; built from a copy, as a build litters."""
    copy, site = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", copy / "src", ignore=ignored)
    argv = [sys.executable, "-c", BUILD, str(copy)]
    built = subprocess.run(argv, cwd=copy, capture_output=True, text=True, check=False, timeout=120)
    assert built.returncode == 0, built.stderr
    (wheel,) = copy.glob("*.whl")
    ZipFile(wheel).extractall(site)
    return site


def files_below(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_every_file_of_the_package_is_in_the_wheel_and_no_other(unpacked: Path) -> None:
    assert files_below(unpacked / "gpusched") == files_below(ROOT / "src/gpusched")
    assert {path.name for path in unpacked.iterdir() if path.suffix != ".dist-info"} == {"gpusched"}


def test_a_cluster_of_the_wheel_alone_runs_a_job(unpacked: Path, home: Path) -> None:
    alone = {"PYTHONPATH": str(unpacked)}
    argv = [sys.executable, "-c", "import gpusched; print(gpusched.__file__)"]
    found = subprocess.run(argv, cwd=home, env=alone, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(unpacked / "gpusched/__init__.py")
    with (
        running_head(Head(home, settings=alone)) as head,
        running_agents(head, ("n1",), "--devices", "1xH100", "--cpus", "2", settings=alone),
        head.client() as client,
    ):
        assert output(client, client.jobs.submit(shell("echo done", gpus_per_node=1))) == "done\n"
    for words in (["--version"], ["simulate", "--help"], ["up", "--help"]):
        ran = gpusched(*words, cwd=home, settings=alone)
        assert (ran.code, ran.err) == (0, "")
