"""A shim whose ranks on CPU 1 hang before their program begins, as on a dead file server."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from gpusched.agent.shim import spawn
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.supervisor import Supervisor


def hang(cpu_ids: tuple[int, ...]) -> None:
    """Stand where a rank calls into the kernel."""
    if 1 in cpu_ids:
        time.sleep(1000)


spawn._pin = hang
Supervisor(AttemptDir(Path(sys.argv[1]))).run()
