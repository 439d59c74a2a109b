"""How much of the free GPUs the usual requests cannot use, and how a placement changes that.

Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient
Descent" (USENIX ATC 2023), section 4: the fragment of a node is the free milli that a request drawn
from the mix cannot use, in expectation.

What a request for one GPU loses on a node is a sum over its GPUs, so the whole expectation is one
table look-up per GPU: ``lost[model, c, r]`` for a GPU with r milli left on a node whose free CPU
satisfies the ``c`` smallest CPU demands of the mix. Requests for several GPUs need one more look-up.
A score then costs O(G) per node, whatever the length of the mix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpusched.placement.fractions import WHOLE, IntColumn, Shape, SharedNodes

FloatColumn = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RequestMix:
    """Shapes of requests and how often each comes.

    Attributes:
        shapes: Distinct shapes, most frequent first.
        shares: Their frequencies, which sum to 1.
    """

    shapes: tuple[Shape, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, requests: Iterable[Shape], *, cover: float = 1.0) -> RequestMix:
        """Count requests; keep the most frequent shapes until they are ``cover`` of all.

        Memory is left out: it decides what fits, not what a free GPU is worth. Of equally frequent
        shapes the larger tuple comes first.
        """
        counts = Counter(
            Shape(cpu_milli=s.cpu_milli, gpu_milli=s.gpu_milli, gpus=s.gpus, models=s.models) for s in requests
        )
        ranked = sorted(counts.items(), key=lambda item: (item[1], item[0]), reverse=True)
        total, kept, seen = sum(counts.values()), [], 0
        for shape, count in ranked:
            if seen >= cover * total:
                break
            kept.append((shape, count))
            seen += count
        return cls(tuple(s for s, _ in kept), tuple(count / seen for _, count in kept))


class FragmentTables:
    """The expected fragment of any node state, for one mix and one set of models."""

    __slots__ = ("_cpu_steps", "_lost", "_spared")

    def __init__(self, mix: RequestMix, models: Sequence[str], gpus_most: int) -> None:
        self._cpu_steps = np.unique([shape.cpu_milli for shape in mix.shapes])
        steps = len(self._cpu_steps) + 1
        milli = np.arange(WHOLE + 1)
        lost = np.zeros((len(models), steps, WHOLE + 1))
        self._spared = np.zeros((len(models), steps, gpus_most + 1))
        enough = np.concatenate(([-1], self._cpu_steps))  # free CPU at least reached on each step
        for shape, share in zip(mix.shapes, mix.shares, strict=True):
            usable = (enough >= shape.cpu_milli)[:, None]
            for number, model in enumerate(models):
                if shape.gpus != 1 or (shape.models and model not in shape.models):
                    lost[number] += share * milli
                else:
                    lost[number] += share * np.where(usable & (milli >= shape.gpu_milli), 0, milli)
                if shape.gpus > 1 and (not shape.models or model in shape.models):
                    whole = np.arange(gpus_most + 1)
                    self._spared[number] += share * WHOLE * np.where(usable & (whole >= shape.gpus), whole, 0)
        self._lost = lost

    def step(self, cpu_milli: IntColumn) -> IntColumn:
        """Rank free CPU among the demands of the mix: all that a fragment depends on."""
        return np.searchsorted(self._cpu_steps, cpu_milli, side="right")

    def of_nodes(self, model: IntColumn, cpu_milli: IntColumn, gpu: IntColumn) -> FloatColumn:
        """Expected fragment of node states, in milli.

        Args:
            model: (M,) index of the model.
            cpu_milli: (M,) free CPU.
            gpu: (M, G) free milli.

        Returns:
            (M,)
        """
        step = self.step(cpu_milli)
        lost = self._lost[model[:, None], step[:, None], gpu].sum(axis=1)
        fragment: FloatColumn = lost - self._spared[model, step, (gpu == WHOLE).sum(axis=1)]
        return fragment

    def after(self, nodes: SharedNodes, shape: Shape, rows: IntColumn) -> FloatColumn:
        """Expected fragment after ``shape`` was placed, for every GPU that it might take.

        Returns:
            (M, G) for a part of a GPU, infinite where it does not fit; else (M, 1), meaningless where
            the node cannot hold the shape.
        """
        gpu, whole = nodes.gpu[rows], nodes.whole[rows]
        model, step = nodes.model[rows], self.step(nodes.cpu[rows] - shape.cpu_milli)
        lost = self._lost[model, step]
        index = np.arange(len(gpu))[:, None]
        each = lost[index, gpu]
        total = each.sum(axis=1)
        if not shape.is_part:
            left = np.maximum(whole - shape.gpus, 0)
            return (total - shape.gpus * lost[:, WHOLE] - self._spared[model, step, left])[:, None]
        left = gpu - shape.gpu_milli
        spared = self._spared[model[:, None], step[:, None], whole[:, None] - (gpu == WHOLE)]
        return np.where(left >= 0, total[:, None] - each + lost[index, left] - spared, np.inf)
