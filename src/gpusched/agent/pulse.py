"""Watches, from outside, whether ranks work: one look at each per heartbeat, nothing inside them.

Each of these is a sign of work: output, a new step, CPU time, I/O, processes that come and go, a GPU that
computes. A rank without any of them since the last look is quiet, and the head is told since when. What a
waiting rank does on the side (PyTorch's watchdog threads, gloo's loop that wakes 100 times a second) stays
below ``CPU_SHARE_MIN`` and ``IO_BYTES_PER_S_MIN``. CPU time is compared with the time in which there was a
CPU to have: a rank that is starved by others on its node has not come to a halt.

A GPU in a kernel that waits for others is busy all the time, so time busy says nothing; its power falls to
a fraction of what the same job drew before and stays there. Its rank's CPU spins with it, and counts for
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpusched.agent.shim.proc import Process, descendants, io_bytes, process_table, runnable_s, waits_in
from gpusched.domain.ids import AttemptId, DeviceUuid
from gpusched.domain.pulse import STOPPED_STATES, GpuPulse, QuietRank
from gpusched.domain.telemetry import DeviceSample

CPU_SHARE_MIN = 0.02  # of one core: a waiting gloo rank takes 0.003, measured
IO_BYTES_PER_S_MIN = 4096
GPU_IDLE_PERCENT = 1.0
GPU_SPIN_PERCENT = 95.0
SPIN_POWER_SHARE = 0.6  # of the highest power of the attempt: above it a busy GPU computes
SPIN_POWER_JITTER = 0.1  # between two looks: computing moves it more
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedRank:
    """A rank to look at: its first process, how far its output and its steps have come, its real GPUs."""

    attempt_id: AttemptId
    global_rank: int
    pid: int
    start_ticks: int
    output_bytes: int
    step: int | None = None
    own_s: float | None = None
    devices: tuple[DeviceUuid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """All that is compared between two looks at one rank. ``main`` is the process that has computed most."""

    at_s: float
    rank: WatchedRank
    main: Process
    pids: frozenset[int]
    cpu_ticks: int
    runnable_s: float  # of ``main``, without a CPU
    io_bytes: int
    gpu: GpuPulse | None


@dataclass(frozen=True, slots=True)
class _Track:
    """One rank over time: the newest look, and when it last showed work."""

    look: _Look
    worked_at_s: float


class Pulses:
    """What was seen of every rank that runs here. Forgets those that it is not asked about again."""

    def __init__(self) -> None:
        self._tracks: dict[tuple[AttemptId, int], _Track] = {}
        self._cards: dict[tuple[AttemptId, DeviceUuid], _Card] = {}

    def look(
        self, watched: Iterable[WatchedRank], devices: Iterable[DeviceSample], now_s: float
    ) -> tuple[QuietRank, ...]:
        """Look at every rank now, and return those that are quiet. Blocking: about 30 µs a process.

        A rank that is looked at for the first time counts as quiet for 0 s: it has not been seen to work.

        Args:
            watched: The ranks that run.
            devices: The newest samples of this node's GPUs.
            now_s: Of a monotonic clock.
        """
        ranks = tuple(watched)
        table = process_table() if ranks else {}
        samples = {device.uuid: device for device in devices}
        tracks, self._tracks = self._tracks, {}
        cards, self._cards = self._cards, {}
        quiet = []
        for rank in ranks:
            first = table.get(rank.pid)
            if first is None or first.start_ticks != rank.start_ticks or first.is_zombie:
                continue
            gpu = self._look_at_gpus(rank, samples, cards)
            look = _look_at(rank, (first, *descendants([first.pid], table)), gpu, now_s)
            before = tracks.get((rank.attempt_id, rank.global_rank))
            works = before is not None and _works(before.look, look)
            since_s = now_s if works or before is None else before.worked_at_s
            self._tracks[rank.attempt_id, rank.global_rank] = _Track(look, since_s)
            if not works:
                quiet.append(_quiet(look, now_s - since_s))
        return tuple(quiet)

    def _look_at_gpus(
        self,
        rank: WatchedRank,
        samples: Mapping[DeviceUuid, DeviceSample],
        cards: Mapping[tuple[AttemptId, DeviceUuid], _Card],
    ) -> GpuPulse | None:
        """The rank's GPUs as one: any that works or cannot be read speaks for all."""
        pulses = set()
        for uuid in rank.devices:
            key = (rank.attempt_id, uuid)
            card = self._cards[key] = cards.get(key) or _Card()
            pulses.add(card.read(samples.get(uuid)))
        order = (GpuPulse.WORKS, GpuPulse.UNKNOWN, GpuPulse.SPINS, GpuPulse.IDLE)
        return next((pulse for pulse in order if pulse in pulses), None)


@dataclass(slots=True)
class _Card:
    """One GPU over the time of one attempt."""

    power_peak_w: float = 0.0
    power_w: float | None = None

    def read(self, sample: DeviceSample | None) -> GpuPulse:
        if sample is None or sample.busy_percent is None:
            return GpuPulse.UNKNOWN
        before_w, self.power_w = self.power_w, sample.power_w
        self.power_peak_w = max(self.power_peak_w, sample.power_w or 0.0)
        if sample.busy_percent <= GPU_IDLE_PERCENT:
            return GpuPulse.IDLE
        if sample.busy_percent < GPU_SPIN_PERCENT or sample.power_w is None or before_w is None:
            return GpuPulse.WORKS
        is_flat = abs(sample.power_w - before_w) <= SPIN_POWER_JITTER * before_w
        is_low = sample.power_w <= SPIN_POWER_SHARE * self.power_peak_w
        return GpuPulse.SPINS if is_flat and is_low else GpuPulse.WORKS


def _look_at(rank: WatchedRank, tree: tuple[Process, ...], gpu: GpuPulse | None, now_s: float) -> _Look:
    main = max(tree, key=lambda process: process.cpu_ticks)
    return _Look(
        at_s=now_s,
        rank=rank,
        main=main,
        pids=frozenset(process.pid for process in tree),
        cpu_ticks=sum(process.cpu_ticks for process in tree),
        runnable_s=runnable_s(main.pid),
        io_bytes=sum(io_bytes(process.pid) for process in tree),
        gpu=gpu,
    )


def _works(before: _Look, now: _Look) -> bool:
    """Whether something was done between two looks."""
    if now.main.state in STOPPED_STATES:
        return False  # what its helpers do meanwhile is no use to it
    if now.gpu in (GpuPulse.WORKS, GpuPulse.UNKNOWN):
        return True
    if (before.rank.output_bytes, before.rank.step) != (now.rank.output_bytes, now.rank.step):
        return True
    elapsed_s = max(now.at_s - before.at_s, 1e-3)
    if now.io_bytes - before.io_bytes >= IO_BYTES_PER_S_MIN * elapsed_s:
        return True
    if now.gpu is GpuPulse.SPINS:
        return False  # its CPU waits for the GPU at full speed
    if before.pids != now.pids:
        return True
    starved_s = now.runnable_s - before.runnable_s if now.main.pid == before.main.pid else 0.0
    had_s = max(elapsed_s - starved_s, 0.0)
    ticks = now.cpu_ticks - before.cpu_ticks
    return ticks > 0 and ticks >= CPU_SHARE_MIN * had_s * TICKS_PER_S


def _quiet(look: _Look, quiet_s: float) -> QuietRank:
    return QuietRank(
        attempt_id=look.rank.attempt_id,
        global_rank=look.rank.global_rank,
        quiet_s=quiet_s,
        state=look.main.state,
        waits_in=waits_in(look.main.pid),
        gpu=look.gpu,
        step=look.rank.step,
    )
