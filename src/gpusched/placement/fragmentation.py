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

import numpy as np

from gpusched.domain.node import WHOLE_MILLI
from gpusched.placement.inventory import IntColumn, Inventory
from gpusched.placement.mix import RequestMix
from gpusched.placement.packing import FloatColumn, kinds
from gpusched.placement.snapshot import ClusterSnapshot


class FragmentTables:
    """The expected fragment of any node state, for one mix and the device classes of an inventory."""

    __slots__ = ("_cpu_steps", "_lost", "_spared")

    def __init__(self, inventory: Inventory, mix: RequestMix) -> None:
        """Tabulate: O(shapes · classes · CPU demands · 1000)."""
        self._cpu_steps = np.unique(np.array([shape.cpus for shape in mix.shapes], dtype=np.int64))
        enough = np.concatenate(([-1], self._cpu_steps))[:, None]
        milli = np.arange(WHOLE_MILLI + 1)
        whole = np.arange(inventory.device_class.shape[1] + 1)
        classes = len(inventory.classes) + 1
        self._lost = np.zeros((classes, len(enough), WHOLE_MILLI + 1))
        self._spared = np.zeros((classes, len(enough), len(whole)))
        for shape, share in zip(mix.shapes, mix.shares, strict=True):
            has_cpu = enough >= shape.cpus
            allowed = inventory.matching_classes(shape)
            self._lost += share * milli
            if shape.gpus == 1:
                self._lost[allowed] -= share * np.where(has_cpu & (milli >= shape.gpu_milli), milli, 0)
            elif shape.gpus > 1:
                usable = np.where(has_cpu & (whole >= shape.gpus), whole * WHOLE_MILLI, 0)
                self._spared[allowed] += share * usable

    def of_nodes(self, kind: IntColumn, cpus: IntColumn, gpu: IntColumn) -> FloatColumn:
        """Expected fragment of node states.

        Args:
            kind: (M,) class of each node's GPUs (``packing.kinds``).
            cpus: (M,) free CPUs, in the unit of the mix.
            gpu: (M, G) free milli of every GPU.

        Returns:
            (M,) milli.
        """
        step = np.searchsorted(self._cpu_steps, cpus, side="right")
        lost = self._lost[kind[:, None], step[:, None], gpu].sum(axis=1)
        fragment: FloatColumn = lost - self._spared[kind, step, (gpu == WHOLE_MILLI).sum(axis=1)]
        return fragment


def fragmented_percent(tables: FragmentTables, snapshot: ClusterSnapshot) -> float | None:
    """How much of the free milli on nodes that accept work a request of the mix cannot use, in expectation.

    Args:
        tables: Made for the snapshot's inventory.
        snapshot: What is free.

    Returns:
        Percent; None if nothing is free.
    """
    inventory = snapshot.inventory
    rows = np.flatnonzero(inventory.reachable & inventory.open & (inventory.gpus_total > 0))
    is_fitted = inventory.device_class[rows] < len(inventory.classes)
    free = np.where(is_fitted, snapshot.milli_free[rows], 0)
    if not free.any():
        return None
    fragments = tables.of_nodes(kinds(inventory)[rows], snapshot.cpus_free[rows], free)
    return float(100.0 * fragments.sum() / free.sum())
