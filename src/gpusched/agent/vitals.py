"""What the head is told of the ranks that run here: the quiet ones, with every heartbeat."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Protocol

from gpusched.agent.attempt_dir import parse_attempt_id, read_order, read_record
from gpusched.agent.logs import output_end
from gpusched.agent.pulse import Pulses, WatchedRank
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.notes import read_step
from gpusched.agent.shim.order import Order
from gpusched.agent.shim.record import Phase
from gpusched.domain.errors import LogCorrupt
from gpusched.domain.ids import AttemptId, DeviceUuid
from gpusched.domain.pulse import QuietRank
from gpusched.domain.telemetry import NodeSample

REST_FACTOR = 200
"""Rest after a look, in looks' CPU time: half a percent of a core at most."""

log = logging.getLogger(__name__)


class Running(Protocol):
    """Who knows what runs (``HeldAttempts``)."""

    def running(self) -> tuple[AttemptDir, ...]: ...


class Vitals:
    """Looks at every rank of every attempt that runs, once per heartbeat.

    Args:
        attempts: Names those that run.
        real_devices: GPUs that NVML can speak of; of declared ones nothing is known.
    """

    def __init__(self, attempts: Running, real_devices: frozenset[DeviceUuid]) -> None:
        self._attempts = attempts
        self._real = real_devices
        self._pulses = Pulses()
        self._orders: dict[AttemptId, Order] = {}
        self._rests_until_s = 0.0
        self._seen: tuple[QuietRank, ...] = ()

    async def quiet(self, sample: NodeSample) -> tuple[QuietRank, ...]:
        """The ranks without a sign of work at the last look. Reads /proc, so it runs in a thread.

        Looks again at each call, but never for more than a ``REST_FACTOR``-th of the time, whatever the
        number of ranks and of the machine's processes.
        """
        running = self._attempts.running()
        if time.monotonic() >= self._rests_until_s:
            self._seen = await asyncio.to_thread(self._look, running, sample)
        return self._seen

    def _look(self, running: tuple[AttemptDir, ...], sample: NodeSample) -> tuple[QuietRank, ...]:
        began_s = time.thread_time()
        orders, self._orders = self._orders, {}
        watched: list[WatchedRank] = []
        for files in running:
            attempt_id = parse_attempt_id(files.path.name)
            assert attempt_id is not None, f"{files.path} is no attempt's folder"
            try:
                order = orders.get(attempt_id) or read_order(files)
                if order is not None:
                    self._orders[attempt_id] = order
                    watched.extend(self._ranks_of(attempt_id, files, order))
            except (LogCorrupt, OSError) as error:  # its shim goes on; there is only nothing to say of it
                log.warning("attempt %s is not watched: %s", attempt_id, error)
        quiet = self._pulses.look(watched, sample.devices, time.monotonic())
        self._rests_until_s = time.monotonic() + REST_FACTOR * (time.thread_time() - began_s)
        return quiet

    def _ranks_of(self, attempt_id: AttemptId, files: AttemptDir, order: Order) -> Iterator[WatchedRank]:
        record = read_record(files)
        if record is None or record.phase is not Phase.RUNNING:
            return
        devices = {task.global_rank: task.devices for task in order.launch.tasks}
        for rank in record.ranks:
            if not rank.has_ended:
                yield WatchedRank(
                    attempt_id=attempt_id,
                    global_rank=rank.global_rank,
                    pid=rank.pid,
                    start_ticks=rank.start_ticks,
                    output_bytes=output_end(files, rank.global_rank),
                    step=read_step(order.notes, f"progress-{rank.global_rank}", order.launch.owner),
                    devices=tuple(uuid for uuid in devices[rank.global_rank] if uuid in self._real),
                )
