"""The head of the queue: the first job that waits for resources, and what later jobs must leave to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import numpy as np

from gpusched.domain.errors import Rejected
from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.placement.counts import Room
from gpusched.placement.fit import fit_now
from gpusched.placement.gang import find, fits, place
from gpusched.placement.inventory import BoolColumn
from gpusched.placement.placement import Counts, Placement
from gpusched.placement.request import node_request
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.forecast import Forecast
from gpusched.policy.plan import QueueEntry

_SECOND_US = 1_000_000


class Head:
    """Says of a later job whether and where it may start."""

    def __init__(
        self, entry: QueueEntry, usable: BoolColumn, make_forecast: Callable[[], Forecast | None]
    ) -> None:
        """Nothing is forecast yet.

        Args:
            entry: The job.
            usable: (N,) nodes it could ever use.
            make_forecast: Says when it could start beside what was started before it, whenever called.
        """
        self.job_id, self.spec, self.usable = entry.job_id, entry.spec, usable
        self._make_forecast = make_forecast

    @cached_property
    def forecast(self) -> Forecast | None:
        """Its forecast, made when first asked for; the snapshot in it holds those that started behind it."""
        return self._make_forecast()

    def allows_until(self, ends_by_us: int | None) -> bool:
        """Tell whether a job that ends by then may start anywhere."""
        if ends_by_us is None:
            return False
        return self.forecast is None or ends_by_us <= self.forecast.start_us

    def beside(self, now: ClusterSnapshot, spec: JobSpec, placement: Placement) -> Placement | None:
        """Keep or move a job that may outlast the shadow time, and hold it; None if it must wait."""
        if self.forecast is None:
            # What the head waits for may be licences: without a limit none of these may be held.
            is_rival = {name for name, _ in spec.licenses} & {name for name, _ in self.spec.licenses}
            return None if is_rival else try_place(now, spec, self.usable)
        later = self.forecast.snapshot
        if not later.has_licenses(_together(spec.licenses, self.spec.licenses)):
            return None
        take(later, placement)
        if fits(later, self.spec):
            return placement
        give_back(later, placement)
        taken_by_head = np.zeros(len(now.names), dtype=bool)
        taken_by_head[[now.index[part.node] for part in place(later, self.spec).nodes]] = True
        elsewhere = try_place(now, spec, taken_by_head)
        if elsewhere is not None:
            take(later, elsewhere)
        return elsewhere

    def room_beside(self, now: ClusterSnapshot) -> tuple[Room, int]:
        """Bound what ``beside`` may use: a sieve for many jobs at once, coarser than it and never finer.

        Returns:
            What each node can give without keeping the head off it, and how many nodes the head can
            spare. A job of k nodes must wait if fewer than k less those have room for it.
        """
        room = Room.now(now)
        if self.forecast is None:
            room.cpus[self.usable] = -1  # less than any job asks for
            return room, 0
        request, later = node_request(self.spec), self.forecast.snapshot
        fitting = np.flatnonzero(fit_now(later, request))
        matching = now.inventory.matching_classes(request)
        milli = later.milli_free[fitting]
        hosts = matching[now.inventory.device_class[fitting]] & (milli >= request.gpu_milli)
        gpus = hosts.sum(axis=1) - request.gpus
        for column in np.flatnonzero(matching):
            room.gpus_by_class[column, fitting] = np.minimum(room.gpus_by_class[column, fitting], gpus)
        # Where the head needs every device that could host it, a share beside it must fit on one of these.
        needed = hosts & (gpus == 0)[:, None]
        beside = np.minimum(room.milli[fitting], milli - request.gpu_milli)
        room.milli[fitting] = np.where(needed, beside, room.milli[fitting])
        for name, amount in request.counters:
            left = now.inventory.amounts_of(name, later.counters_free)[fitting] - amount
            row = now.inventory.counters.index(name)
            room.counters[row, fitting] = np.minimum(room.counters[row, fitting], left)
        room.cpus[fitting] = np.minimum(room.cpus[fitting], later.cpus_free[fitting] - request.cpus)
        memory = later.memory_free[fitting] - request.memory_bytes
        room.memory[fitting] = np.minimum(room.memory[fitting], memory)
        return room, len(fitting) - self.spec.nodes


class HeadForecast(Mapping[JobId, int]):
    """The head's earliest start, microseconds, under its id; empty where it can't be said.

    Most cycles find nothing that could start behind the head, and nobody asks: then it is never worked out.
    """

    def __init__(self, head: Head) -> None:
        self._head = head

    def __getitem__(self, job_id: JobId) -> int:
        if job_id != self._head.job_id or self._head.forecast is None:
            raise KeyError(job_id)
        return self._head.forecast.start_us

    def __iter__(self) -> Iterator[JobId]:
        return iter(() if self._head.forecast is None else (self._head.job_id,))

    def __len__(self) -> int:
        return 0 if self._head.forecast is None else 1


def _together(left: Counts, right: Counts) -> Counts:
    return tuple((Counter(dict(left)) + Counter(dict(right))).items())


def ends_by(spec: JobSpec, now_us: int) -> int | None:
    """When a job that starts now ends at the latest, microseconds; None without a limit."""
    return None if spec.time_limit_s is None else now_us + spec.time_limit_s * _SECOND_US


def take(snapshot: ClusterSnapshot, placement: Placement) -> None:
    """Hold a whole placement."""
    snapshot.take_licenses(placement.licenses)
    for part in placement.nodes:
        snapshot.take(part)


def give_back(snapshot: ClusterSnapshot, placement: Placement) -> None:
    """Free what ``take`` held."""
    snapshot.give_back_licenses(placement.licenses)
    for part in placement.nodes:
        snapshot.give_back(part)


def try_place(now: ClusterSnapshot, spec: JobSpec, avoid: BoolColumn | None = None) -> Placement | None:
    """Place a gang; None if it does not fit now."""
    try:
        return find(now, spec, avoid=avoid)
    except Rejected:
        return None
