"""A cluster over time, in a few hundred samples: what waits, what is in use, how fragmented the rest is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpusched.domain.node import WHOLE_MILLI
from gpusched.engine.state import ClusterState
from gpusched.placement.fragmentation import FragmentTables, fragmented_percent
from gpusched.placement.inventory import Inventory
from gpusched.placement.mix import NOTHING_KNOWN, RequestMix

SAMPLES_MAX = 400
"""When so many are taken every second one is dropped, and from then on they are twice as far apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The cluster at one moment."""

    at_us: int
    jobs_waiting: int
    gpus_held: float
    gpus_up: int  # on nodes that are reachable
    fragmentation_percent: float | None  # of the free GPU milli; None: none is free, or no demand is known


class Series:
    """Samples at equal distances. The cluster is looked at only where a sample falls."""

    def __init__(self, start_us: int, step_us: int) -> None:
        self.samples: list[Sample] = []
        self._next_us, self._step_us = start_us, max(1, step_us)
        self._tables: tuple[RequestMix, Inventory, FragmentTables] | None = None

    def observe(self, state: ClusterState, until_us: int) -> None:
        """Note that the cluster is as ``state`` says from the last call until then."""
        if self._next_us >= until_us:
            return
        sample = self._sample(state)
        while self._next_us < until_us:
            self.samples.append(replace(sample, at_us=self._next_us))
            if len(self.samples) >= SAMPLES_MAX:
                del self.samples[1::2]
                self._step_us *= 2
                self._next_us = self.samples[-1].at_us
            self._next_us += self._step_us

    def _sample(self, state: ClusterState) -> Sample:
        snapshot = state.snapshot
        held_milli = sum(state.jobs[job_id].spec.gpu_milli_total for job_id in state.running)
        mix = state.demand.mix
        fragmentation = None
        if mix is not NOTHING_KNOWN:
            fragmentation = fragmented_percent(self._tables_of(snapshot.inventory, mix), snapshot)
        return Sample(
            at_us=self._next_us,
            jobs_waiting=len(state.queue),
            gpus_held=held_milli / WHOLE_MILLI,
            gpus_up=int(snapshot.inventory.gpus_total[snapshot.inventory.reachable].sum()),
            fragmentation_percent=fragmentation,
        )

    def _tables_of(self, inventory: Inventory, mix: RequestMix) -> FragmentTables:
        if self._tables is None or self._tables[0] is not mix or self._tables[1] is not inventory:
            self._tables = mix, inventory, FragmentTables(inventory, mix)
        return self._tables[2]
