"""Where a request for GPUs or parts of them does least harm to those that will follow it.

A node is worth what the requests of the mix can still make of it, in milli of GPU:

    value = usable - FINALITY · leftover + reserve

``usable`` is the expectation, over a shape drawn from the mix, of the milli that copies of it could
take: as many as both the GPUs and the CPU admit. It is the free milli less the fragment of Weng et
al. (USENIX ATC 2023), but counts copies: a node with 8 free GPUs and CPU for one request is not a
node with 8 usable GPUs. It needs no sigmoid and no truncation, since it keeps CPU and GPU in balance.

``leftover`` is what one GPU is expected to strand when requests keep coming, and not only the next
one: with r milli left, shapes are drawn (in proportion to the milli they ask for in all); one that
fits is taken, and in ``PATIENCE`` of the draws' weight the GPU is left as it is for good:

    leftover(r) = (PATIENCE · r + sum of p(m) · leftover(r - m) over m <= r) / (PATIENCE + sum of p(m))

It weighs twice: what is merely unusable for one shape may yet serve another, what is stranded is lost.
So 530 milli are worth more than 540 where requests for 530 or for two of 265 are usual. Only shapes
for which the node still has the CPU count.

``reserve`` is the pressure on the model times the free milli: each shape's demand spread evenly over
all the GPUs that will do. What only one scarce model can serve weighs on that model alone, so a
request that may go anywhere goes where few must.

The score of a placement is the growth of the value. A part of a GPU goes to the GPU whose leftover
grows least.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpusched.placement.fragmentation import RequestMix
from gpusched.placement.shared_nodes import WHOLE, FloatColumn, IntColumn, Shape, SharedNodes

PATIENCE = 0.01
FINALITY = 2.0
# Far below any difference that means something, far above rounding: equal states score equal.
DECIMALS = 6


class FutureValue:
    """Scores placements on ``nodes`` by what they leave to a request mix.

    Cost of a score: O(G + S) per node, for S distinct pairs of CPU and GPU demand in the mix.
    """

    __slots__ = (
        "_copies",
        "_copies_of",
        "_cpu",
        "_gpus",
        "_leftover",
        "_nodes",
        "_pressure",
        "_size",
        "_steps",
        "_value",
        "_weight",
    )

    def __init__(self, nodes: SharedNodes, mix: RequestMix) -> None:
        """Tabulate what depends on the mix alone; O(models · CPU demands · 1000 · shares of a GPU)."""
        wanted = [(shape, share) for shape, share in zip(mix.shapes, mix.shares, strict=True) if shape.gpus]
        sizes = sorted({(shape.gpu_milli, shape.gpus) for shape, _ in wanted})
        pairs = sorted({(shape.cpu_milli, shape.gpu_milli, shape.gpus) for shape, _ in wanted})
        self._nodes = nodes
        self._steps = np.unique(np.array([shape.cpu_milli for shape, _ in wanted], dtype=np.int64))
        self._leftover = leftover_table(wanted, nodes.models, self._steps)
        self._pressure = model_pressure(wanted, nodes)
        self._gpus = np.array([gpus for _, gpus in sizes], dtype=np.int64)
        self._copies_of = np.arange(WHOLE + 1)[:, None] // np.array([m for m, _ in sizes], dtype=np.int64)
        self._size = np.array([sizes.index(pair[1:]) for pair in pairs], dtype=np.int64)
        self._cpu = np.array([max(1, cpu) for cpu, _, _ in pairs], dtype=np.int64)
        self._weight = _weights(wanted, pairs, nodes.models)
        self._copies = np.zeros((len(nodes.cpu), len(sizes)), dtype=np.int64)
        self._value = np.zeros(len(nodes.cpu))
        self._renew(np.arange(len(nodes.cpu)))

    def note_placed(self, shape: Shape, row: int) -> None:
        """Take note that something was placed on a node."""
        self._renew(np.array([row]))

    def score(self, shape: Shape, rows: IntColumn) -> FloatColumn:
        """Growth of the value of nodes if ``shape`` is placed there; it must fit on all of them.

        Args:
            shape: What is placed.
            rows: (M,) nodes.

        Returns:
            (M,) milli, higher is better.
        """
        nodes = self._nodes
        gpu, cpu, copies = nodes.gpu[rows], nodes.cpu[rows] - shape.cpu_milli, self._copies[rows]
        each = self._leftovers(rows, cpu, gpu)
        stranded = each.sum(axis=1)
        if shape.is_part:
            growth, device = self._least_growth(shape, rows, cpu, gpu, each)
            before = gpu[np.arange(len(rows)), device]
            copies = copies - self._copies_of[before] + self._copies_of[before - shape.gpu_milli]
            stranded += growth
        elif shape.gpus:
            copies = copies - shape.gpus * self._copies_of[WHOLE]
            stranded -= shape.gpus * self._leftovers(rows, cpu, np.full((1, 1), WHOLE))[:, 0]
        after = self._of(rows, cpu, copies, gpu.sum(axis=1) - shape.total_milli, stranded)
        return (after - self._value[rows]).round(DECIMALS)

    def devices(self, shape: Shape, row: int) -> tuple[int, ...]:
        """Choose the GPUs of a node on which ``shape`` fits; of equally good ones the first."""
        if not shape.is_part:
            return self._nodes.whole_devices(row, shape.gpus)
        rows = np.array([row])
        gpu, cpu = self._nodes.gpu[rows], self._nodes.cpu[rows] - shape.cpu_milli
        _, device = self._least_growth(shape, rows, cpu, gpu, self._leftovers(rows, cpu, gpu))
        return (int(device[0]),)

    def _renew(self, rows: IntColumn) -> None:
        gpu, cpu = self._nodes.gpu[rows], self._nodes.cpu[rows]
        self._copies[rows] = self._copies_of[gpu].sum(axis=1)
        stranded = self._leftovers(rows, cpu, gpu).sum(axis=1)
        self._value[rows] = self._of(rows, cpu, self._copies[rows], gpu.sum(axis=1), stranded)

    def _of(
        self, rows: IntColumn, cpu: IntColumn, copies: IntColumn, idle: IntColumn, stranded: FloatColumn
    ) -> FloatColumn:
        model = self._nodes.model[rows]
        by_gpu = (copies // self._gpus)[:, self._size]
        usable = np.einsum("ms,ms->m", np.minimum(by_gpu, cpu[:, None] // self._cpu), self._weight[model])
        value: FloatColumn = usable - FINALITY * stranded + self._pressure[model] * idle
        return value

    def _leftovers(self, rows: IntColumn, cpu: IntColumn, gpu: IntColumn) -> FloatColumn:
        step = self._steps.searchsorted(cpu, side="right")
        table: FloatColumn = self._leftover[self._nodes.model[rows][:, None], step[:, None], gpu]
        return table

    def _least_growth(
        self, shape: Shape, rows: IntColumn, cpu: IntColumn, gpu: IntColumn, each: FloatColumn
    ) -> tuple[FloatColumn, IntColumn]:
        left = gpu - shape.gpu_milli
        growth = self._leftovers(rows, cpu, np.maximum(left, 0)) - each
        growth = np.where(left >= 0, growth.round(DECIMALS), np.inf)
        device = growth.argmin(axis=1)
        return growth[np.arange(len(rows)), device], device


def leftover_table(
    wanted: Sequence[tuple[Shape, float]], models: Sequence[str], steps: IntColumn
) -> NDArray[np.float64]:
    """Expected milli that a GPU strands, by model, CPU step and free milli (see the module).

    Args:
        wanted: Shapes with GPUs and their shares.
        models: M names.
        steps: (C,) CPU demands, ascending; a node is on step c if it meets the c smallest.

    Returns:
        (M, C + 1, 1001) milli; never more than is free.
    """
    milli = np.unique(np.array([shape.gpu_milli for shape, _ in wanted], dtype=np.int64))
    enough = np.concatenate(([-1], steps))
    chance = np.zeros((len(models), len(enough), len(milli)))
    everything = sum(share * shape.total_milli for shape, share in wanted)
    for shape, share in wanted:
        part = share * shape.total_milli / everything
        column = int(np.searchsorted(milli, shape.gpu_milli))
        chance[_allowed(shape, models)[:, None] & (enough >= shape.cpu_milli), column] += part
    table = np.zeros((len(models), len(enough), WHOLE + 1))
    for free in range(1, WHOLE + 1):
        fitting = milli[milli <= free]
        drawn = chance[:, :, : len(fitting)]
        stays = PATIENCE * free + (drawn * table[:, :, free - fitting]).sum(axis=2)
        table[:, :, free] = stays / (PATIENCE + drawn.sum(axis=2))
    return table


def model_pressure(wanted: Sequence[tuple[Shape, float]], nodes: SharedNodes) -> FloatColumn:
    """How much of the demand rests on each model; 1 everywhere if nobody minds the model.

    Args:
        wanted: Shapes with GPUs and their shares.
        nodes: Whose GPUs are the supply.

    Returns:
        (M,) demand over supply, both as shares of their totals.
    """
    supply = np.bincount(nodes.model, weights=nodes.gpus, minlength=len(nodes.models))
    everything = sum(share * shape.total_milli for shape, share in wanted)
    pressure = np.zeros(len(nodes.models))
    for shape, share in wanted:
        allowed = _allowed(shape, nodes.models)
        if (able := supply[allowed].sum()) > 0:
            pressure[allowed] += share * shape.total_milli / everything * supply.sum() / able
    return pressure


def _weights(
    wanted: Sequence[tuple[Shape, float]], pairs: Sequence[tuple[int, int, int]], models: Sequence[str]
) -> NDArray[np.float64]:
    weight = np.zeros((len(models), len(pairs)))
    everything = sum(share for _, share in wanted)
    for shape, share in wanted:
        column = pairs.index((shape.cpu_milli, shape.gpu_milli, shape.gpus))
        weight[_allowed(shape, models), column] += share * shape.total_milli / everything
    return weight


def _allowed(shape: Shape, models: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([not shape.models or model in shape.models for model in models], dtype=bool)
