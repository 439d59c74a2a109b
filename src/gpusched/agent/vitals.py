"""What the head is told of the ranks that run here, with every heartbeat: who is quiet, and who is where."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from gpusched.agent.attempt_dir import parse_attempt_id, read_order, read_record
from gpusched.agent.logs import output_end
from gpusched.agent.pulse import Pulses, WatchedRank
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.notes import read_progress
from gpusched.agent.shim.order import Order
from gpusched.agent.shim.record import Phase
from gpusched.domain.errors import LogCorrupt
from gpusched.domain.ids import AttemptId, DeviceUuid
from gpusched.domain.pulse import QuietRank, RankPace
from gpusched.domain.telemetry import NodeSample

REST_FACTOR = 200
"""Rest after a look, in looks' CPU time: half a percent of a core at most."""

log = logging.getLogger(__name__)


class Running(Protocol):
    """Who knows what runs (``HeldAttempts``)."""

    def running(self) -> tuple[AttemptDir, ...]: ...


class Looked(NamedTuple):
    """One look at all ranks."""

    quiet: tuple[QuietRank, ...] = ()
    paces: tuple[RankPace, ...] = ()


class _Work:
    """Something that is done for a ``2 * REST_FACTOR``-th of the time at most: there are two of them."""

    def __init__(self) -> None:
        self._rests_until_s = 0.0

    @property
    def is_rested(self) -> bool:
        return time.monotonic() >= self._rests_until_s

    @contextmanager
    def measured(self) -> Iterator[None]:
        began_s = time.thread_time()
        yield
        took_s = time.thread_time() - began_s
        self._rests_until_s = time.monotonic() + 2 * REST_FACTOR * took_s


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
        self._reading, self._looking = _Work(), _Work()
        self._seen = Looked()

    async def look(self, sample: NodeSample) -> Looked:
        """What the last look saw. Reads files and /proc, so it runs in a thread.

        Looks again at each call, but for no more than a ``REST_FACTOR``-th of the time, whatever the number
        of ranks and of the machine's processes. What ranks wrote is read more often than /proc, if need be.
        """
        running = self._attempts.running()
        if self._reading.is_rested:
            self._seen = await asyncio.to_thread(self._look, running, sample)
        return self._seen

    def _look(self, running: tuple[AttemptDir, ...], sample: NodeSample) -> Looked:
        with self._reading.measured():
            watched = self._watched(running)
            paces = tuple(_paces(watched, time.monotonic()))
        quiet = self._seen.quiet
        if self._looking.is_rested:
            with self._looking.measured():
                quiet = self._pulses.look(watched, sample.devices, time.monotonic())
        return Looked(quiet, paces)

    def _watched(self, running: tuple[AttemptDir, ...]) -> list[WatchedRank]:
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
        return watched

    def _ranks_of(self, attempt_id: AttemptId, files: AttemptDir, order: Order) -> Iterator[WatchedRank]:
        record = read_record(files)
        if record is None or record.phase is not Phase.RUNNING:
            return
        devices = {task.global_rank: task.devices for task in order.launch.tasks}
        for rank in record.ranks:
            if not rank.has_ended:
                name = f"progress-{rank.global_rank}"
                progress = read_progress(order.notes, name, order.launch.owner)
                yield WatchedRank(
                    attempt_id=attempt_id,
                    global_rank=rank.global_rank,
                    pid=rank.pid,
                    start_ticks=rank.start_ticks,
                    output_bytes=output_end(files, rank.global_rank),
                    step=None if progress is None else progress.step,
                    own_s=None if progress is None else progress.own_s,
                    devices=tuple(uuid for uuid in devices[rank.global_rank] if uuid in self._real),
                )


def _paces(watched: Iterable[WatchedRank], now_s: float) -> Iterator[RankPace]:
    for rank in watched:
        if rank.step is not None:
            yield RankPace(
                attempt_id=rank.attempt_id,
                global_rank=rank.global_rank,
                step=rank.step,
                at_s=now_s,
                own_s=rank.own_s,
            )
