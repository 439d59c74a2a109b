"""Where a request does least harm to those that will follow it: what a node is worth to the usual mix.

A node is worth what the requests of the mix can still make of it, in milli of GPU:

    value = usable - FINALITY · leftover + reserve

``usable`` is the expectation, over a shape drawn from the mix, of the milli that copies of it could
take: as many as both the GPUs and the CPUs admit. It is the free milli less the fragment of Weng et
al. (USENIX ATC 2023), but counts copies: a node with 8 free GPUs and CPUs for one request is not a
node with 8 usable GPUs. It needs no sigmoid and no truncation, since it keeps CPUs and GPUs in balance.

``leftover`` is what one GPU is expected to strand when requests keep coming, and not only the next
one: with r milli left, shapes are drawn (in proportion to the milli they ask for in all); one that
fits is taken, and in ``PATIENCE`` of the draws' weight the GPU is left as it is for good:

    leftover(r) = (PATIENCE · r + sum of p(m) · leftover(r - m) over m <= r) / (PATIENCE + sum of p(m))

It weighs twice: what is merely unusable for one shape may yet serve another, what is stranded is lost.
So 530 milli are worth more than 540 where requests for 530 or for two of 265 are usual. Only shapes
for which the node still has the CPUs count.

``reserve`` is the pressure on the GPU model times the free milli: each shape's demand spread evenly
over all the GPUs that will do. What only one scarce model can serve weighs on that model alone, so a
request that may go anywhere goes where few must.

The score of a placement is the growth of the value. A part of a GPU goes to the GPU whose leftover
grows least. Values are whole numbers of ``QUANTA`` per milli, held in floats that are far below 2^53:
sums are exact in any order, so equal nodes score equal, on every machine.

CPUs may be counted in any unit, the same in the mix and on the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gpusched.domain.node import WHOLE_MILLI
from gpusched.placement.inventory import BoolColumn, IntColumn, Inventory
from gpusched.placement.mix import RequestMix
from gpusched.placement.request import NodeRequest
from gpusched.placement.score import FreeColumns, fullness, fullness_span

PATIENCE = 0.01
FINALITY = 2.0
QUANTA = 10_000
PRESSURE_MAX = 1_000.0  # beyond it a model is as scarce as can be, and a score would not fit in 64 bits

FloatColumn = NDArray[np.float64]
Wanted = Sequence[tuple[NodeRequest, float]]


class Packing:
    """How nodes are chosen: by what they leave to the usual mix, and among equals the fullest."""

    __slots__ = ("_future", "_inventory", "_mix")

    def __init__(self, inventory: Inventory, mix: RequestMix) -> None:
        self._inventory, self._mix = inventory, mix
        self._future: FutureValue | None = None  # tabulated when it is first asked

    def score(self, free: FreeColumns, request: NodeRequest, rows: IntColumn) -> IntColumn:
        """Score (M,) nodes on all of which ``request`` fits: whole numbers, higher is better."""
        score = fullness(self._inventory, free, request, rows)
        if self._mix.wants_gpus:
            score += self._value.growth(free, request, rows) * fullness_span(self._inventory)
        return score

    def device(self, free: FreeColumns, request: NodeRequest, row: int) -> int:
        """Choose the GPU of a node for a part of one that fits there, as ``FutureValue.device``."""
        return self._value.device(free, request, row)

    @property
    def _value(self) -> FutureValue:
        if self._future is None:
            self._future = FutureValue(self._inventory, self._mix)
        return self._future


class FutureValue:
    """What the nodes of an inventory are worth to a mix, and how a placement changes it.

    The worth of a row is kept until the row's stamp is another. Cost of a row: O(G·Z + S), for Z distinct
    sizes, and S distinct pairs of size and CPUs, in the mix.
    """

    __slots__ = (
        "_copies",
        "_copies_of",
        "_cpus",
        "_gpus",
        "_inventory",
        "_kind",
        "_leftover",
        "_pressure",
        "_size",
        "_stamps",
        "_steps",
        "_value",
        "_weight",
    )

    def __init__(self, inventory: Inventory, mix: RequestMix) -> None:
        """Tabulate what depends on mix and models alone: O(classes · CPU demands · 1000 · shares)."""
        wanted = [(s, share) for s, share in zip(mix.shapes, mix.shares, strict=True) if s.gpus]
        sizes = sorted({(s.gpu_milli, s.gpus) for s, _ in wanted})
        pairs = sorted({(s.cpus, s.gpu_milli, s.gpus) for s, _ in wanted})
        milli = np.arange(WHOLE_MILLI + 1)[:, None]
        self._inventory = inventory
        self._kind = kinds(inventory)
        self._steps = np.unique(np.array([s.cpus for s, _ in wanted], dtype=np.int64))
        self._leftover = _exact(FINALITY * leftover_table(inventory, wanted, self._steps))
        self._pressure = _exact(model_pressure(inventory, wanted))
        self._weight = _exact(_weights(inventory, wanted, pairs))
        self._gpus = np.array([gpus for _, gpus in sizes], dtype=np.int64)
        self._copies_of = milli // np.array([each for each, _ in sizes], dtype=np.int64)
        self._size = np.array([sizes.index(pair[1:]) for pair in pairs], dtype=np.int64)
        self._cpus = np.array([max(1, cpus) for cpus, _, _ in pairs], dtype=np.int64)
        self._copies = np.zeros((len(self._kind), len(sizes)), dtype=np.int64)
        self._value = np.zeros(len(self._kind))
        self._stamps = np.full(len(self._kind), -1)

    def growth(self, free: FreeColumns, request: NodeRequest, rows: IntColumn) -> IntColumn:
        """Growth of the value of nodes if ``request`` is placed there; it must fit on all of them.

        Args:
            free: What is free.
            request: What is placed.
            rows: (M,) nodes.

        Returns:
            (M,) quanta, higher is better.
        """
        if not len(rows):
            return np.zeros(0, dtype=np.int64)
        self._freshen(free, rows)
        gpu, cpus, copies = free.milli_free[rows], free.cpus_free[rows] - request.cpus, self._copies[rows]
        each = self._leftovers(rows, cpus, gpu)
        stranded = each.sum(axis=1)
        if request.is_part:
            growth, device = self._least_growth(request, rows, cpus, gpu)
            before = gpu[np.arange(len(rows)), device]
            copies += self._copies_of[before - request.gpu_milli] - self._copies_of[before]
            stranded += growth
        elif request.gpus:
            copies -= request.gpus * self._copies_of[WHOLE_MILLI]
            stranded -= request.gpus * self._leftovers(rows, cpus, np.full((1, 1), WHOLE_MILLI))[:, 0]
        idle = gpu.sum(axis=1) - request.total_milli
        return (self._of(rows, cpus, copies, idle, stranded) - self._value[rows]).astype(np.int64)

    def device(self, free: FreeColumns, request: NodeRequest, row: int) -> int:
        """Choose the GPU of a node for a part of one that fits there: of equally good ones the fullest."""
        rows = np.array([row])
        gpu, cpus = free.milli_free[rows], free.cpus_free[rows] - request.cpus
        return int(self._least_growth(request, rows, cpus, gpu)[1][0])

    def _freshen(self, free: FreeColumns, rows: IntColumn) -> None:
        rows = rows[self._stamps[rows] != free.stamps[rows]]
        if not len(rows):
            return
        gpu, cpus = free.milli_free[rows], free.cpus_free[rows]
        self._copies[rows] = self._copies_of[gpu].sum(axis=1)
        stranded = self._leftovers(rows, cpus, gpu).sum(axis=1)
        self._value[rows] = self._of(rows, cpus, self._copies[rows], gpu.sum(axis=1), stranded)
        self._stamps[rows] = free.stamps[rows]

    def _of(
        self, rows: IntColumn, cpus: IntColumn, copies: IntColumn, idle: IntColumn, stranded: FloatColumn
    ) -> FloatColumn:
        kind = self._kind[rows]
        by_gpu = (copies // self._gpus)[:, self._size]
        usable = np.einsum("ms,ms->m", np.minimum(by_gpu, cpus[:, None] // self._cpus), self._weight[kind])
        value: FloatColumn = usable - stranded + self._pressure[kind] * idle
        return value

    def _leftovers(self, rows: IntColumn, cpus: IntColumn, gpu: IntColumn) -> FloatColumn:
        step = self._steps.searchsorted(cpus, side="right")
        table: FloatColumn = self._leftover[self._kind[rows][:, None], step[:, None], gpu]
        return table

    def _least_growth(
        self, request: NodeRequest, rows: IntColumn, cpus: IntColumn, gpu: IntColumn
    ) -> tuple[FloatColumn, IntColumn]:
        left = gpu - request.gpu_milli
        growth = self._leftovers(rows, cpus, np.maximum(left, 0)) - self._leftovers(rows, cpus, gpu)
        will_do = _will_do(self._inventory, request)[self._inventory.device_class[rows]]
        order = np.where((left >= 0) & will_do, growth * (WHOLE_MILLI + 1) + gpu, np.inf)
        device = order.argmin(axis=1)
        return growth[np.arange(len(rows)), device], device


def kinds(inventory: Inventory) -> IntColumn:
    """(N,) class of most of each node's GPUs, the first of equally many; C for a node without."""
    if not inventory.classes:
        return np.zeros(len(inventory.names), dtype=np.int64)
    most: IntColumn = inventory.gpus_by_class.argmax(axis=0)
    return np.where(inventory.gpus_total > 0, most, len(inventory.classes))


def leftover_table(inventory: Inventory, wanted: Wanted, steps: IntColumn) -> NDArray[np.float64]:
    """Expected milli that a GPU strands, by class, CPU step and free milli (see the module).

    Args:
        inventory: Whose C classes.
        wanted: Shapes with GPUs and their shares.
        steps: (D,) CPU demands, ascending; a node is on step d if it meets the d smallest.

    Returns:
        (C + 1, D + 1, 1001) milli; never more than is free.
    """
    milli = np.unique(np.array([shape.gpu_milli for shape, _ in wanted], dtype=np.int64))
    enough = np.concatenate(([-1], steps))
    chance = np.zeros((len(inventory.classes) + 1, len(enough), len(milli)))
    for shape, part in _by_demand(wanted):
        column = int(np.searchsorted(milli, shape.gpu_milli))
        chance[_will_do(inventory, shape)[:, None] & (enough >= shape.cpus), column] += part
    # What is left beyond a multiple of all shares is stranded whatever comes: a step per multiple will do.
    free = np.arange(WHOLE_MILLI + 1)
    unit = math.gcd(WHOLE_MILLI, *milli.tolist())
    table = np.zeros((*chance.shape[:2], WHOLE_MILLI // unit + 1))
    for step in range(1, table.shape[2]):
        fitting = milli[milli <= step * unit]
        drawn = chance[:, :, : len(fitting)]
        stays = PATIENCE * step * unit + (drawn * table[:, :, step - fitting // unit]).sum(axis=2)
        table[:, :, step] = stays / (PATIENCE + drawn.sum(axis=2))
    leftover: NDArray[np.float64] = table[:, :, free // unit] + free % unit
    return leftover


def model_pressure(inventory: Inventory, wanted: Wanted) -> FloatColumn:
    """How much of the demand rests on each class; 1 everywhere if nobody minds the model.

    Args:
        inventory: Whose GPUs are the supply.
        wanted: Shapes with GPUs and their shares.

    Returns:
        (C + 1,) demand over supply, both as shares of their totals.
    """
    supply = np.bincount(kinds(inventory), weights=inventory.gpus_total, minlength=len(inventory.classes) + 1)
    pressure = np.zeros(len(supply))
    for shape, part in _by_demand(wanted):
        will_do = _will_do(inventory, shape)
        if (able := supply[will_do].sum()) > 0:
            pressure[will_do] += part * supply.sum() / able
    return np.minimum(pressure, PRESSURE_MAX)


def _weights(
    inventory: Inventory, wanted: Wanted, pairs: Sequence[tuple[int, int, int]]
) -> NDArray[np.float64]:
    weight = np.zeros((len(inventory.classes) + 1, len(pairs)))
    everything = sum(share for _, share in wanted)
    for shape, share in wanted:
        column = pairs.index((shape.cpus, shape.gpu_milli, shape.gpus))
        weight[_will_do(inventory, shape), column] += share / everything * shape.total_milli
    return weight


def _by_demand(wanted: Wanted) -> Iterator[tuple[NodeRequest, float]]:
    """Shapes and what each asks for of all that is asked for."""
    everything = sum(share * shape.total_milli for shape, share in wanted)
    for shape, share in wanted:
        yield shape, share * shape.total_milli / everything


def _will_do(inventory: Inventory, shape: NodeRequest) -> BoolColumn:
    return inventory.matching_classes(shape)


def _exact(milli: NDArray[np.float64]) -> NDArray[np.float64]:
    quanta: NDArray[np.float64] = np.rint(milli * QUANTA)
    return quanta
