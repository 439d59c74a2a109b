"""The process that every shim is forked from, so that starting one costs a fork and no imports.

It speaks over one SOCK_SEQPACKET socket with its agent: a request is the path of an attempt's
directory, the answer the shim's pid, or ``error <why>``. When the agent's end closes it goes; the
shims stay.
"""

from __future__ import annotations

import gc
import os
import resource  # noqa: F401 - os.wait4 imports it: once here, not once in every shim
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.proc import PR_SET_DUMPABLE, prctl
from gpusched.agent.shim.supervisor import Supervisor

PATH_BYTES_MAX = 8192


def serve(channel: socket.socket) -> None:
    """Fork a shim for each request until the agent is gone."""
    # Children are never waited for. SIGUSR1 may reach a shim before it is ready; it reads stop.json anyway.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    gc.disable()
    gc.freeze()  # shims share these pages
    while request := channel.recv(PATH_BYTES_MAX):
        try:
            pid = os.fork()
        except OSError as error:
            channel.send(f"error {error.strerror}".encode())
            continue
        if pid == 0:
            _be_shim(channel, Path(os.fsdecode(request)))
        channel.send(str(pid).encode())


def _be_shim(channel: socket.socket, path: Path) -> NoReturn:
    try:
        channel.close()
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        Supervisor(AttemptDir(path)).run()
    except BaseException:  # noqa: BLE001 (the top of a process that must not return into serve)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Serve on the socket whose descriptor is the first argument."""
    prctl(PR_SET_DUMPABLE, 0)  # shims hold tokens and what a job is told; ranks are dumped as users like it
    serve(socket.socket(fileno=int(sys.argv[1])))
