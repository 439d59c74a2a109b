"""The policies of the ATC'23 study, as scores; facts from hkust-adsl/kubernetes-scheduler-simulator.

Scores are integers 0..100, as in the Kubernetes scheduling framework they ran in: truncation makes
ties, and who wins a tie is half of what those policies do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpusched.domain.node import WHOLE_MILLI
from gpusched.engine.demand import Demand
from gpusched.placement.inventory import BoolColumn, IntColumn
from gpusched.placement.mix import NOTHING_KNOWN, RequestMix
from gpusched.placement.packing import Packing, kinds
from gpusched.placement.request import NodeRequest
from gpusched.placement.score import FreeColumns
from gpusched.placement.snapshot import ClusterSnapshot

CPU_MOST_MILLI = 128_000
GPU_MOST_MILLI = 8 * WHOLE_MILLI
Floats = NDArray[np.float64]


class Ours(Packing):
    """The scheduler's own score."""

    def __init__(self, snapshot: ClusterSnapshot, mix: RequestMix) -> None:
        super().__init__(snapshot.inventory, mix)

    def note(self, request: NodeRequest, row: int | None) -> None:
        """It reads the snapshot alone."""


class Learnt(Ours):
    """The scheduler's own score, with the mix as the engine learns it: from what came before."""

    def __init__(self, snapshot: ClusterSnapshot, mix: RequestMix) -> None:
        super().__init__(snapshot, NOTHING_KNOWN)
        self._snapshot = snapshot
        self._demand = Demand()
        self._arrived = 0

    def note(self, request: NodeRequest, row: int | None) -> None:
        """Count it; every so often another mix is expected."""
        self._arrived += 1
        self._demand.count(self._arrived, request, 1)
        self._snapshot.expect(self._demand.mix)


class Published:
    """What they share: a part of a GPU goes to the fullest GPU that has room, whole ones to the first."""

    def __init__(self, snapshot: ClusterSnapshot, mix: RequestMix) -> None:
        self.inventory = snapshot.inventory
        self.mix = mix

    def device(self, free: FreeColumns, request: NodeRequest, row: int) -> int:
        milli = free.milli_free[row]
        return int(np.where(milli >= request.gpu_milli, milli, WHOLE_MILLI + 1).argmin())

    def note(self, request: NodeRequest, row: int | None) -> None:
        """Hear of a decision."""

    def _is_empty(self, free: FreeColumns, rows: IntColumn) -> BoolColumn:
        empty: BoolColumn = free.gpus_free[rows] == self.inventory.gpus_total[rows]
        return empty


class BestFit(Published):
    """Least CPU and GPU left over, each as a share of the largest node, equal weights."""

    def score(self, free: FreeColumns, request: NodeRequest, rows: IntColumn) -> IntColumn:
        cpu = (free.cpus_free[rows] - request.cpus) / CPU_MOST_MILLI * 0.5
        gpu = (_gpu_free(free, rows) - request.total_milli) / GPU_MOST_MILLI * 0.5
        return _truncated((1.0 - (cpu + gpu)) * 100)


class DotProd(Published):
    """Least product of request and free resources."""

    def score(self, free: FreeColumns, request: NodeRequest, rows: IntColumn) -> IntColumn:
        cpu = free.cpus_free[rows] / CPU_MOST_MILLI * (request.cpus / CPU_MOST_MILLI)
        gpu = _gpu_free(free, rows) / GPU_MOST_MILLI * (request.total_milli / GPU_MOST_MILLI)
        return _truncated(100 * (1 - (cpu + gpu) / 2))


class GpuPacking(Published):
    """GPUs in use before idle GPUs, those before empty nodes."""

    def score(self, free: FreeColumns, request: NodeRequest, rows: IntColumn) -> IntColumn:
        if request.gpus == 0:
            return np.zeros(len(rows), dtype=np.int64)
        gpu, whole = free.milli_free[rows], free.gpus_free[rows]
        empty = np.maximum(100 // 3 - whole, whole)
        wholly = np.full(len(rows), max(50 - request.gpus, 100 // 3))
        if not request.is_part:
            return np.where(self._is_empty(free, rows), empty, wholly)
        fullest = np.where(gpu >= request.gpu_milli, gpu, WHOLE_MILLI).min(axis=1)
        shared = np.maximum(100 - fullest * 100 // WHOLE_MILLI // 10, 50)
        used = np.where(fullest == WHOLE_MILLI, wholly, shared)
        return np.where(self._is_empty(free, rows), empty, used)


class GpuClustering(Published):
    """Nodes already holding the same kind of pod (a part, 1 GPU, 2 GPUs, ...), and no other."""

    def __init__(self, snapshot: ClusterSnapshot, mix: RequestMix) -> None:
        super().__init__(snapshot, mix)
        self._kinds = np.zeros((len(snapshot.names), int(self.inventory.gpus_total.max()) + 2), dtype=bool)

    def score(self, free: FreeColumns, request: NodeRequest, rows: IntColumn) -> IntColumn:
        if request.gpus == 0:
            return np.zeros(len(rows), dtype=np.int64)
        here = self._kinds[rows].sum(axis=1)
        same = self._kinds[rows, _kind(request)]
        used = 25 * (GPU_MOST_MILLI - _gpu_free(free, rows)) // GPU_MOST_MILLI
        quarter = np.where(same, np.where(here == 1, 75, 50), np.where(here == 0, 25, 0))
        score: IntColumn = used + quarter
        return score

    def note(self, request: NodeRequest, row: int | None) -> None:
        if request.gpus and row is not None:
            self._kinds[row, _kind(request)] = True


class Fgd(Published):
    """Fragmentation gradient descent: least growth of the expected fragment, through a sigmoid."""

    def __init__(self, snapshot: ClusterSnapshot, mix: RequestMix) -> None:
        super().__init__(snapshot, mix)
        self._kind = kinds(self.inventory)
        self._access = [self.inventory.matching_classes(shape) for shape in mix.shapes]

    def score(self, free: FreeColumns, request: NodeRequest, rows: IntColumn) -> IntColumn:
        best: IntColumn = self._growth(free, request, rows).max(axis=1).astype(np.int64)
        return best

    def device(self, free: FreeColumns, request: NodeRequest, row: int) -> int:
        return int(self._growth(free, request, np.array([row]))[0].argmax())

    def _growth(self, free: FreeColumns, request: NodeRequest, rows: IntColumn) -> Floats:
        """Squashed scores: (M, G) by GPU for a part, -1 where it does not fit; else (M, 1)."""
        kind, cpus, gpu = self._kind[rows], free.cpus_free[rows], free.milli_free[rows]
        now = self.fragments(kind, cpus, gpu)
        if request.is_part:
            node, device = np.nonzero(gpu >= request.gpu_milli)
            after = gpu[node]
            after[np.arange(len(node)), device] -= request.gpu_milli
            score = np.full(gpu.shape, -1.0)
            fragment = self.fragments(kind[node], cpus[node] - request.cpus, after)
            score[node, device] = _squashed(now[node] - fragment)
            return score
        whole = gpu == WHOLE_MILLI
        after = np.where(whole & (whole.cumsum(axis=1) <= request.gpus), 0, gpu)
        return _squashed(now - self.fragments(kind, cpus - request.cpus, after))[:, None]

    def fragments(self, kind: IntColumn, cpus: IntColumn, gpu: IntColumn) -> Floats:
        """As ``FragmentTables.of_nodes``, adding in the study's order: another flips truncated scores."""
        idle = gpu.sum(axis=1)
        cases = np.zeros((6, len(kind)))
        for shape, share, access in zip(self.mix.shapes, self.mix.shares, self._access, strict=True):
            has_cpu = cpus >= shape.cpus
            if shape.gpus == 0:
                cases[np.where(has_cpu, 3, 4), np.arange(len(kind))] += share * idle
                continue
            has_gpu = (gpu >= shape.gpu_milli).sum(axis=1) >= shape.gpus
            case = np.where(has_cpu, 1, np.where(has_gpu, 2, 0))
            case[~access[kind]] = 5
            small = np.where(gpu < shape.gpu_milli, gpu, 0).sum(axis=1)
            lost = np.where((case == 1) & has_gpu, small, idle)
            cases[case, np.arange(len(kind))] += share * lost
        fragment: Floats = cases[0] + cases[1] + cases[2] + cases[3] + cases[4] + cases[5]
        return fragment


def _gpu_free(free: FreeColumns, rows: IntColumn) -> IntColumn:
    total: IntColumn = free.milli_free[rows].sum(axis=1)
    return total


def _squashed(spared_milli: Floats) -> Floats:
    return np.trunc(100 / (1 + np.exp(-spared_milli / WHOLE_MILLI)))


def _truncated(score: Floats) -> IntColumn:
    return np.trunc(score).astype(np.int64)


def _kind(request: NodeRequest) -> int:
    return 0 if request.is_part else request.gpus
