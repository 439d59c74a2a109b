"""The site's own programs: checks, and what runs before and after an attempt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from itertools import chain

from gpusched.agent.health.programs import require_trusted, run_program
from gpusched.agent.health.settings import Argv, HookSettings
from gpusched.domain.events import TasksEnded
from gpusched.domain.ids import AttemptId, NodeName
from gpusched.domain.job_state import EndReason
from gpusched.domain.launch_plan import NodeLaunch

log = logging.getLogger(__name__)

REMEMBERED_MAX = 10_000


class Hooks:
    """Runs them. A prolog or an epilog is run once per attempt and life of the agent.

    Raises:
        ConfigInvalid: Somebody else than root or this user could change one of them.
    """

    def __init__(self, node: NodeName, settings: HookSettings) -> None:
        for argv in chain(settings.check, settings.prolog, settings.epilog):
            require_trusted(argv)
        self._node, self._settings = node, settings
        self._prologs: dict[AttemptId, asyncio.Task[str | None]] = {}
        self._launches: dict[AttemptId, dict[str, str]] = {}

    @property
    def has_checks(self) -> bool:
        """Whether there is anything to check."""
        return bool(self._settings.check)

    async def check(self) -> tuple[str, ...]:
        """Run every check; the reasons of those that say no."""
        failures = [await self._run((argv,), {"GPUSCHED_HOOK": "check"}) for argv in self._settings.check]
        return tuple(failure for failure in failures if failure is not None)

    async def prolog(self, launch: NodeLaunch) -> str | None:
        """Run what must succeed before ranks start; the reason if it did not.

        Whoever asks again while it runs waits for the same one.
        """
        if not self._settings.prolog:
            return None
        attempt_id = AttemptId(launch.job_id, launch.epoch)
        if attempt_id not in self._prologs:
            self._forget_old()
            facts = self._launches[attempt_id] = {
                "GPUSCHED_JOB_ID": str(launch.job_id),
                "GPUSCHED_EPOCH": str(launch.epoch),
                "GPUSCHED_UID": str(launch.owner.uid),
                "GPUSCHED_DEVICES": ",".join(launch.devices),
            }
            running = self._run(self._settings.prolog, {"GPUSCHED_HOOK": "prolog", **facts})
            self._prologs[attempt_id] = asyncio.ensure_future(running)
        return await asyncio.shield(self._prologs[attempt_id])

    async def epilog(self, ended: TasksEnded) -> str | None:
        """Run what cleans up after the ranks are gone; the reason if it failed."""
        if not self._settings.epilog or ended.cause is EndReason.PROLOG_FAILED:
            return None
        facts = self._launches.pop(AttemptId(ended.job_id, ended.epoch), None) or {
            "GPUSCHED_JOB_ID": str(ended.job_id),
            "GPUSCHED_EPOCH": str(ended.epoch),
        }
        return await self._run(self._settings.epilog, {"GPUSCHED_HOOK": "epilog", **facts})

    async def _run(self, programs: Iterable[Argv], facts: dict[str, str]) -> str | None:
        for argv in programs:
            ran = await run_program(argv, self._settings.timeout_s, {"GPUSCHED_NODE": self._node, **facts})
            if ran.failure is not None:
                log.error("%s %s: %s\n%s", facts["GPUSCHED_HOOK"], argv[0], ran.failure, ran.output)
                return ran.failure
        return None

    def _forget_old(self) -> None:
        for known in (self._prologs, self._launches):
            for attempt_id in list(known)[: len(known) - REMEMBERED_MAX]:
                del known[attempt_id]
