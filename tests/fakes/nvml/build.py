"""Build the fake ``libnvidia-ml.so.1`` and point a child process at it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")


def build_fake_nvml(folder: Path, *, defines: tuple[str, ...] = ()) -> Path:
    """Compile into ``folder`` with gcc; returns ``folder``, to go first in LD_LIBRARY_PATH.

    ``defines=("OLD_DRIVER",)`` leaves out the functions of newer drivers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Wno-format-truncation", "-shared", "-fPIC"]
    command += [f"-D{name}" for name in defines]
    command += ["-Wl,-soname,libnvidia-ml.so.1", "-o", str(folder / "libnvidia-ml.so.1"), str(SOURCE)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, f"gcc could not build the fake NVML:\n{built.stderr}"
    return folder


def with_fake_nvml(environment: Mapping[str, str], library: Path, state: Path) -> dict[str, str]:
    """The environment of a child whose pynvml shall load the fake and see the machine in ``state``."""
    paths = [str(library), *filter(None, [environment.get("LD_LIBRARY_PATH")])]
    return {
        **environment,
        "LD_LIBRARY_PATH": os.pathsep.join(paths),
        "FAKE_NVML_STATE": str(state),
    }
