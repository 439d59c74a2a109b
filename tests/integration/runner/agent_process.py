"""A process that runs a ``Runner`` and is there to be killed: ``agent_process.py HOME LAUNCH_FILE``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from gpusched.agent.runner import Runner
from gpusched.domain.ids import NodeName
from gpusched.domain.launch_plan import NodeLaunch

LAUNCHES = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[NodeLaunch])


async def main() -> None:
    """Launch what the file says, then say each report by its kind, acknowledging none."""
    runner = Runner(Path(sys.argv[1]), NodeName("n0"))
    await runner.start()
    for launch in LAUNCHES:
        await runner.launch(launch)
    while True:
        fact = await runner.reports.get()
        sys.stdout.write(f"{type(fact).__name__} {fact.job_id}\n")
        sys.stdout.flush()


asyncio.run(main())
