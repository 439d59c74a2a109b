"""``import gpusched`` is free: what it offers is loaded when it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gpusched


@pytest.mark.parametrize("name", sorted(set(gpusched.__all__) - {"__version__"}))
def test_every_public_name_is_there(name):
    assert getattr(gpusched, name).__name__ == name


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NoSuch"):
        _ = gpusched.NoSuch


def test_importing_the_package_loads_neither_grpc_nor_protobuf():
    program = "import sys, gpusched; gpusched.__version__; print(*sys.modules)"
    source = Path(gpusched.__file__).parents[1]
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "gpusched" in loaded
    assert not loaded & {"grpc", "google.protobuf", "gpusched.wire", "numpy", "sqlalchemy"}
