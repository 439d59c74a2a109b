"""A rank whose children flee it: forked twice, in sessions of their own, deaf to SIGTERM and SIGHUP."""

from __future__ import annotations

from integration.runner.rig import Node, launch_of, python

from gpusched.agent.shim.proc import read_process
from gpusched.domain.launch_plan import NodeLaunch

ESCAPE = """
import os, signal, sys, time
go, wipe = sys.argv[-1], os.environ.get("WIPE")
for _ in range(int(os.environ["COUNT"])):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for signum in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        with open(os.environ["PIDS"], "a") as file:
            file.write(f"{os.getpid()}\\n")
        if wipe:
            os.execve("/bin/sleep", ["sleep", "600"], {})
        time.sleep(600)
        os._exit(0)
    os.wait()
while len(open(os.environ["PIDS"]).read().split()) < int(os.environ["COUNT"]):
    time.sleep(0.01)
print("escaped", flush=True)
"""


def escape(node: Node, count: int, *, then: str = "", wipe: str = "") -> NodeLaunch:
    pids = str(node.home / "pids")
    return launch_of(python(ESCAPE + then, COUNT=str(count), PIDS=pids, WIPE=wipe))


def escaped(node: Node) -> dict[int, int]:
    """The escapees that live, with their start."""
    pids = map(int, (node.home / "pids").read_text().split())
    found = {pid: read_process(pid) for pid in pids}
    return {pid: p.start_ticks for pid, p in found.items() if p is not None and not p.is_zombie}
