"""How much of the free GPUs the usual requests cannot use: the measure of fragmentation, and its mix.

Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient
Descent" (USENIX ATC 2023), section 4: the fragment of a node is the free milli that a request drawn
from the mix cannot use, in expectation.

What a request for one GPU loses on a node is a sum over its GPUs, so the whole expectation is one
table look-up per GPU: ``lost[model, c, r]`` for a GPU with r milli left on a node whose free CPU
satisfies the ``c`` smallest CPU demands of the mix. Requests for several GPUs need one more look-up.
It then costs O(G) per node, whatever the length of the mix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gpusched.placement.shared_nodes import WHOLE, FloatColumn, IntColumn, Shape


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
    def of(cls, requests: Iterable[Shape], *, cover: float = 0.95) -> RequestMix:
        """Count requests; keep the most frequent shapes until they are ``cover`` of all.

        Memory is left out: it decides what fits, not what a free GPU is worth. Of equally frequent
        shapes the larger comes first. The default is the study's: what comes once a month is no
        reason to keep room free.
        """
        counts = Counter(
            Shape(cpu_milli=each.cpu_milli, gpu_milli=each.gpu_milli, gpus=each.gpus, models=each.models)
            for each in requests
        )
        ranked = sorted(counts.items(), key=lambda item: (item[1], item[0]), reverse=True)
        total = counts.total()
        kept: list[tuple[Shape, int]] = []
        seen = 0
        for shape, count in ranked:
            if seen >= cover * total:
                break
            kept.append((shape, count))
            seen += count
        return cls(
            tuple(shape for shape, _ in kept),
            tuple(count / total / (seen / total) for _, count in kept),
        )


class FragmentTables:
    """The expected fragment of any node state, for one mix and one set of models."""

    __slots__ = ("_cpu_steps", "_lost", "_spared")

    def __init__(self, mix: RequestMix, models: Sequence[str], gpus_most: int) -> None:
        """Tabulate: O(shapes · models · CPU demands · 1000)."""
        self._cpu_steps = np.unique(np.array([shape.cpu_milli for shape in mix.shapes], dtype=np.int64))
        enough = np.concatenate(([-1], self._cpu_steps))[:, None]
        milli = np.arange(WHOLE + 1)
        whole = np.arange(gpus_most + 1)
        self._lost = np.zeros((len(models), len(enough), WHOLE + 1))
        self._spared = np.zeros((len(models), len(enough), gpus_most + 1))
        for shape, share in zip(mix.shapes, mix.shares, strict=True):
            has_cpu = enough >= shape.cpu_milli
            allowed = [i for i, model in enumerate(models) if not shape.models or model in shape.models]
            self._lost += share * milli
            if shape.gpus == 1:
                self._lost[allowed] -= share * np.where(has_cpu & (milli >= shape.gpu_milli), milli, 0)
            elif shape.gpus > 1:
                usable = np.where(has_cpu & (whole >= shape.gpus), whole * WHOLE, 0)
                self._spared[allowed] += share * usable

    def of_nodes(self, model: IntColumn, cpu_milli: IntColumn, gpu: IntColumn) -> FloatColumn:
        """Expected fragment of node states.

        Args:
            model: (M,) index of the model.
            cpu_milli: (M,) free CPU in thousandths.
            gpu: (M, G) free milli of every GPU.

        Returns:
            (M,) milli.
        """
        step = np.searchsorted(self._cpu_steps, cpu_milli, side="right")
        lost = self._lost[model[:, None], step[:, None], gpu].sum(axis=1)
        fragment: FloatColumn = lost - self._spared[model, step, (gpu == WHOLE).sum(axis=1)]
        return fragment
