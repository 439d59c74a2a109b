"""The policies of the ATC'23 study, as scores; facts from hkust-adsl/kubernetes-scheduler-simulator.

Scores are integers 0..100, as in the Kubernetes scheduling framework they ran in: truncation makes
ties, and who wins a tie is half of what those policies do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpusched.placement.fragmentation import RequestMix
from gpusched.placement.shared_nodes import WHOLE, IntColumn, Shape, SharedNodes

CPU_MOST_MILLI = 128_000
GPU_MOST_MILLI = 8 * WHOLE
Floats = NDArray[np.float64]


class Published:
    """What they share: a part of a GPU goes to the fullest GPU that has room, whole ones to the first."""

    def __init__(self, nodes: SharedNodes, mix: RequestMix) -> None:
        self.nodes = nodes
        self.mix = mix

    def devices(self, shape: Shape, row: int) -> tuple[int, ...]:
        if shape.is_part:
            return (self.nodes.fullest_device(row, shape.gpu_milli),)
        return self.nodes.whole_devices(row, shape.gpus)

    def note_placed(self, shape: Shape, row: int) -> None:
        """Hear of a placement."""

    def _gpu_free(self, rows: IntColumn) -> IntColumn:
        total: IntColumn = self.nodes.gpu[rows].sum(axis=1)
        return total


class BestFit(Published):
    """Least CPU and GPU left over, each as a share of the largest node, equal weights."""

    def score(self, shape: Shape, rows: IntColumn) -> Floats:
        cpu = (self.nodes.cpu[rows] - shape.cpu_milli) / CPU_MOST_MILLI * 0.5
        gpu = (self._gpu_free(rows) - shape.total_milli) / GPU_MOST_MILLI * 0.5
        return np.trunc((1.0 - (cpu + gpu)) * 100)


class DotProd(Published):
    """Least product of request and free resources."""

    def score(self, shape: Shape, rows: IntColumn) -> Floats:
        cpu = self.nodes.cpu[rows] / CPU_MOST_MILLI * (shape.cpu_milli / CPU_MOST_MILLI)
        gpu = self._gpu_free(rows) / GPU_MOST_MILLI * (shape.total_milli / GPU_MOST_MILLI)
        return np.trunc(100 * (1 - (cpu + gpu) / 2))


class GpuPacking(Published):
    """GPUs in use before idle GPUs, those before empty nodes."""

    def score(self, shape: Shape, rows: IntColumn) -> Floats:
        if shape.gpus == 0:
            return np.zeros(len(rows))
        gpu, whole = self.nodes.gpu[rows], self.nodes.whole[rows]
        empty = np.maximum(100 // 3 - whole, whole)
        wholly = np.maximum(50 - shape.gpus, 100 // 3)
        if not shape.is_part:
            return np.where(whole == self.nodes.gpus[rows], empty, wholly).astype(float)
        fullest = np.where(gpu >= shape.gpu_milli, gpu, WHOLE).min(axis=1)
        shared = np.maximum(100 - fullest * 100 // WHOLE // 10, 50)
        used = np.where(fullest == WHOLE, wholly, shared)
        return np.where(whole == self.nodes.gpus[rows], empty, used).astype(float)


class GpuClustering(Published):
    """Nodes already holding the same kind of pod (a part, 1 GPU, 2 GPUs, ...), and no other."""

    def __init__(self, nodes: SharedNodes, mix: RequestMix) -> None:
        super().__init__(nodes, mix)
        self._kinds = np.zeros((len(nodes.cpu), int(nodes.gpus.max()) + 2), dtype=bool)

    def score(self, shape: Shape, rows: IntColumn) -> Floats:
        if shape.gpus == 0:
            return np.zeros(len(rows))
        kinds = self._kinds[rows].sum(axis=1)
        same = self._kinds[rows, _kind(shape)]
        used = 25 * (GPU_MOST_MILLI - self._gpu_free(rows)) // GPU_MOST_MILLI
        quarter = np.where(same, np.where(kinds == 1, 75, 50), np.where(kinds == 0, 25, 0))
        return (used + quarter).astype(float)

    def note_placed(self, shape: Shape, row: int) -> None:
        if shape.gpus:
            self._kinds[row, _kind(shape)] = True


class Fgd(Published):
    """Fragmentation gradient descent: least growth of the expected fragment, through a sigmoid."""

    def __init__(self, nodes: SharedNodes, mix: RequestMix) -> None:
        super().__init__(nodes, mix)
        self._no_access = np.array(
            [
                [bool(shape.models) and model not in shape.models for model in nodes.models]
                for shape in mix.shapes
            ]
        )
        self._fragment = self._fragments(nodes.model, nodes.cpu, nodes.gpu)

    def score(self, shape: Shape, rows: IntColumn) -> Floats:
        best: Floats = self._growth(shape, rows).max(axis=1)
        return best

    def devices(self, shape: Shape, row: int) -> tuple[int, ...]:
        if not shape.is_part:
            return self.nodes.whole_devices(row, shape.gpus)
        return (int(self._growth(shape, np.array([row]))[0].argmax()),)

    def note_placed(self, shape: Shape, row: int) -> None:
        one = slice(row, row + 1)
        self._fragment[one] = self._fragments(self.nodes.model[one], self.nodes.cpu[one], self.nodes.gpu[one])

    def _growth(self, shape: Shape, rows: IntColumn) -> Floats:
        """Squashed scores: (M, G) by GPU for a part, -1 where it does not fit; else (M, 1)."""
        model, cpu, gpu = self.nodes.model[rows], self.nodes.cpu[rows] - shape.cpu_milli, self.nodes.gpu[rows]
        if shape.is_part:
            node, device = np.nonzero(gpu >= shape.gpu_milli)
            after = gpu[node]
            after[np.arange(len(node)), device] -= shape.gpu_milli
            score = np.full(gpu.shape, -1.0)
            fragment = self._fragments(model[node], cpu[node], after)
            score[node, device] = _squashed(self._fragment[rows][node] - fragment)
            return score
        whole = gpu == WHOLE
        after = np.where(whole & (whole.cumsum(axis=1) <= shape.gpus), 0, gpu)
        return _squashed(self._fragment[rows] - self._fragments(model, cpu, after))[:, None]

    def _fragments(self, model: IntColumn, cpu: IntColumn, gpu: IntColumn) -> Floats:
        """As ``FragmentTables.of_nodes``, adding in the study's order: another flips truncated scores."""
        idle = gpu.sum(axis=1)
        kinds = np.zeros((6, len(model)))
        for number, (shape, share) in enumerate(zip(self.mix.shapes, self.mix.shares, strict=True)):
            has_cpu = cpu >= shape.cpu_milli
            if shape.gpus == 0:
                kinds[np.where(has_cpu, 3, 4), np.arange(len(model))] += share * idle
                continue
            has_gpu = (gpu >= shape.gpu_milli).sum(axis=1) >= shape.gpus
            kind = np.where(has_cpu, 1, np.where(has_gpu, 2, 0))
            kind[self._no_access[number, model]] = 5
            small = np.where(gpu < shape.gpu_milli, gpu, 0).sum(axis=1)
            lost = np.where((kind == 1) & has_gpu, small, idle)
            kinds[kind, np.arange(len(model))] += share * lost
        fragment: Floats = kinds[0] + kinds[1] + kinds[2] + kinds[3] + kinds[4] + kinds[5]
        return fragment


def _squashed(spared_milli: Floats) -> Floats:
    return np.trunc(100 / (1 + np.exp(-spared_milli / WHOLE)))


def _kind(shape: Shape) -> int:
    return 0 if shape.is_part else shape.gpus
