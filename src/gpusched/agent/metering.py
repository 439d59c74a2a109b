"""Samples of the node once per beat, and what each attempt's devices did in them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from gpusched.agent.sampler import AttemptMeter, Sampler
from gpusched.domain.events import AgentReport, TasksEnded
from gpusched.domain.ids import AttemptId, DeviceUuid
from gpusched.domain.telemetry import NodeSample

ANSWER_WAIT_S = 2.0


class Meters:
    """One meter per attempt that this agent launched.

    An attempt adopted from an earlier agent has none: what was not watched from its start is
    not measured, and None says so.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._meters: dict[AttemptId, AttemptMeter] = {}
        self._one_at_a_time = asyncio.Lock()
        self._measuring: asyncio.Task[NodeSample] | None = None

    async def sample(self) -> NodeSample:
        """Measure now and feed every meter.

        NVML may block on a sick card, so it runs in a thread; while that does not come back, samples
        say that nothing is known, and heartbeats go on.
        """
        if self._measuring is None:
            self._measuring = asyncio.ensure_future(self._measure())
        measuring = self._measuring
        await asyncio.wait({measuring}, timeout=ANSWER_WAIT_S)
        if not measuring.done():
            return self._sampler.unknown(time.time_ns() // 1_000)
        if self._measuring is measuring:
            self._measuring = None
        sample = measuring.result()
        now_us = time.monotonic_ns() // 1_000
        for meter in self._meters.values():
            meter.add(sample, now_us)
        return sample

    @asynccontextmanager
    async def released(self) -> AsyncIterator[None]:
        """Hold the driver closed, as a reset wants it. Samples go on without devices.

        Raises:
            NvmlBroken: It does not start again afterwards.
        """
        async with self._one_at_a_time:
            await asyncio.to_thread(self._sampler.release)
        try:
            yield
        finally:
            async with self._one_at_a_time:
                await asyncio.to_thread(self._sampler.regain)

    async def _measure(self) -> NodeSample:
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._sampler.sample, time.time_ns() // 1_000)

    async def start(self, attempt_id: AttemptId, devices: tuple[DeviceUuid, ...]) -> None:
        """Begin to meter an attempt, from a sample taken now. One that is metered goes on."""
        if devices and attempt_id not in self._meters:
            self._meters[attempt_id] = AttemptMeter(devices)
            await self.sample()

    async def complete(self, fact: AgentReport) -> AgentReport:
        """The fact, and at an attempt's end what its devices did, up to a sample taken now."""
        attempt_id = AttemptId(fact.job_id, fact.epoch)
        if not isinstance(fact, TasksEnded) or attempt_id not in self._meters:
            return fact
        await self.sample()
        uses = self._meters.pop(attempt_id).uses()
        return replace(fact, use=replace(fact.use, devices=uses))
