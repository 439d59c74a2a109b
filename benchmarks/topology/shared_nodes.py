"""What is free on nodes whose GPUs are shared in thousandths, and what a request for them looks like.

One GPU is ``WHOLE`` milli. A request wants whole GPUs, or a part of exactly one. Sharing is
bookkeeping, not isolation: two jobs on one GPU can slow each other and see each other's faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpusched.domain.errors import InfeasibleRequest, StalePlan

WHOLE = 1000
IntColumn = NDArray[np.int64]
BoolColumn = NDArray[np.bool_]
FloatColumn = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Shape:
    """What one request asks of one node. Hashable: requests of equal shape fit the same nodes.

    Attributes:
        cpu_milli: CPUs in thousandths.
        gpu_milli: Share of each GPU in thousandths: ``WHOLE``, or below it for one GPU; 0 without GPU.
        gpus: Number of GPUs.
        models: GPU models that will do; empty stands for any.
        memory_mib: Host memory.
    """

    cpu_milli: int
    gpu_milli: int = 0
    gpus: int = 0
    models: tuple[str, ...] = ()
    memory_mib: int = 0

    def __post_init__(self) -> None:
        if self.cpu_milli < 0 or self.memory_mib < 0 or self.gpus < 0:
            raise InfeasibleRequest(f"{self} asks for less than nothing: ask for zero or more")
        in_range = 1 <= self.gpu_milli <= WHOLE if self.gpus else self.gpu_milli == 0
        if not in_range or (self.gpus > 1 and self.gpu_milli != WHOLE):
            raise InfeasibleRequest(
                f"{self.gpus} GPUs at {self.gpu_milli}/{WHOLE} each cannot be had: "
                f"ask for whole GPUs, or for 1 to {WHOLE} thousandths of one"
            )

    @property
    def is_part(self) -> bool:
        """Whether it wants a part of one GPU."""
        return 0 < self.gpu_milli < WHOLE

    @property
    def total_milli(self) -> int:
        """GPU milli that it holds once placed."""
        return self.gpus * self.gpu_milli


class SharedNodes:
    """Free columns over N nodes with up to G shareable GPUs each; ``take`` changes one row.

    Attributes:
        models: Names of the M GPU models.
        model: (N,) index into ``models``.
        cpu: (N,) free CPU in thousandths.
        memory: (N,) free host memory in MiB.
        gpu: (N, G) free milli of every GPU, G >= 1; 0 where a node has fewer than G.
        gpus: (N,) number of GPUs fitted.
        whole: (N,) GPUs of which nothing is taken.
    """

    __slots__ = ("cpu", "gpu", "gpus", "memory", "model", "models", "whole")

    def __init__(
        self, *, models: Sequence[str], cpu_milli: IntColumn, memory_mib: IntColumn, gpus: IntColumn
    ) -> None:
        """Start with nothing taken.

        Args:
            models: (N,) model of each node's GPUs.
            cpu_milli: (N,)
            memory_mib: (N,)
            gpus: (N,)
        """
        self.models = tuple(sorted(set(models)))
        self.model = np.array([self.models.index(model) for model in models], dtype=np.int64)
        self.cpu = cpu_milli.astype(np.int64)
        self.memory = memory_mib.astype(np.int64)
        self.gpus = gpus.astype(np.int64)
        fitted = np.arange(int(gpus.max(initial=1))) < self.gpus[:, None]
        self.gpu = np.where(fitted, WHOLE, 0)
        self.whole = self.gpus.copy()

    def allowed(self, shape: Shape) -> BoolColumn:
        """Tell which nodes have a model that will do. (N,)"""
        if not shape.models:
            return np.ones(len(self.model), dtype=bool)
        return np.isin(self.model, [self.models.index(m) for m in shape.models if m in self.models])

    def fits(self, shape: Shape, rows: IntColumn | slice = slice(None)) -> BoolColumn:
        """Tell which of ``rows`` have the CPU, memory and GPUs free; models are ``allowed``'s matter. (M,)"""
        mask: BoolColumn = (self.cpu[rows] >= shape.cpu_milli) & (self.memory[rows] >= shape.memory_mib)
        if shape.is_part:
            mask &= self.gpu[rows].max(axis=1) >= shape.gpu_milli
        elif shape.gpus:
            mask &= self.whole[rows] >= shape.gpus
        return mask

    def take(self, row: int, shape: Shape, devices: Sequence[int]) -> None:
        """Hold what ``shape`` asks for on one node.

        Raises:
            StalePlan: It is not free. Nothing is taken.
        """
        if len(set(devices)) != shape.gpus:
            raise StalePlan(f"{len(devices)} devices named for {shape.gpus}: plan again")
        if self.cpu[row] < shape.cpu_milli or self.memory[row] < shape.memory_mib:
            raise StalePlan(f"node {row} lacks CPU or memory: plan again")
        for device in devices:
            if device >= self.gpus[row] or self.gpu[row, device] < shape.gpu_milli:
                raise StalePlan(f"GPU {device} of node {row} has not {shape.gpu_milli} milli: plan again")
        self.cpu[row] -= shape.cpu_milli
        self.memory[row] -= shape.memory_mib
        for device in devices:
            self.whole[row] -= self.gpu[row, device] == WHOLE
            self.gpu[row, device] -= shape.gpu_milli

    def whole_devices(self, row: int, count: int) -> tuple[int, ...]:
        """The first ``count`` GPUs of a node of which nothing is taken."""
        return tuple(np.flatnonzero(self.gpu[row] == WHOLE)[:count].tolist())

    def fullest_device(self, row: int, gpu_milli: int) -> int:
        """The GPU with least left that has ``gpu_milli``; the first of equals."""
        free = self.gpu[row]
        return int(np.where(free >= gpu_milli, free, WHOLE + 1).argmin())
