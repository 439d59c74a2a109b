"""A tree of groups of unlike tasks, each with its own topology wishes, all placed or nothing.

A depth-first search over domains and nodes, with undo: a component that finds no room sends the one
before it to its next choice. Once in the order given, once with the largest tasks first; each time
at most ``STEPS_MAX`` placements are tried. The nearest first try mostly holds: O(tasks x N).
The rules of choice are those of NVIDIA's KAI-Scheduler.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.topology.shared_nodes import WHOLE, Shape, SharedNodes
from gpusched.placement.tree import BoolColumn, IntColumn, Tree

STEPS_MAX = 5_000
"""Placements of single tasks that one search may try before it gives up."""


class Packing(StrEnum):
    """Which of equally near nodes, or GPUs for a part of one, go first."""

    PACK = "pack"  # the fullest
    SPREAD = "spread"  # the emptiest
    ANY = "any"  # the first; a shared GPU before a whole one


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One task: what it needs and where it may go (None: anywhere)."""

    name: str
    shape: Shape
    allowed: BoolColumn | None = None  # (N,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Tasks and groups that belong together.

    Attributes:
        required: All inside one domain of this level; None where it doesn't matter.
        preferred: As near as this level if they can be, never a reason to refuse.
        held: Nodes on which tasks of the group run already: ``required`` holds for them too.
        parts: Groups inside, placed in this order, before ``tasks``.
    """

    required: int | None = None
    preferred: int | None = None
    held: frozenset[int] = frozenset()
    parts: tuple[Group, ...] = ()
    tasks: tuple[Task, ...] = ()

    def all_tasks(self) -> Iterator[Task]:
        """Every task in the group and the groups inside it."""
        for part in self.parts:
            yield from part.all_tasks()
        yield from self.tasks


@dataclass(frozen=True, slots=True)
class TaskPlacement:
    """One task's node and the GPUs it takes there."""

    task: str
    row: int
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ways:
    """How to choose among what fits."""

    nodes: Packing = Packing.PACK
    gpus: Packing = Packing.PACK


def place_group(
    free: SharedNodes, tree: Tree, group: Group, ways: Ways = Ways()
) -> tuple[TaskPlacement, ...] | None:
    """Place every task of a group, or none.

    Of the domains that can take a group, the narrowest level first and on it the one with the least
    free; inside it the emptiest domains of the preferred level first, so that few are used.

    Args:
        free: What is free; as it was when this returns.
        tree: Where the nodes hang; nodes outside it serve groups without wishes.
        group: The tasks.
        ways: How to choose among what fits.

    Returns:
        One placement per task, in the order in which they were placed; None if none was found within
        the bound.
    """
    for wanted in (group, _largest_first(group)):
        search = _Search(free, tree, ways)
        everywhere = np.ones(len(free.cpu), dtype=bool)
        try:
            if next(search.group(wanted, everywhere, None), None) is not None:
                return search.finish()
        except _OutOfSteps:
            search.finish()
    return None


def _largest_first(group: Group) -> Group:
    parts = sorted(map(_largest_first, group.parts), key=_largest_task, reverse=True)
    tasks = sorted(group.tasks, key=lambda task: task.shape.total_milli, reverse=True)
    return replace(group, parts=tuple(parts), tasks=tuple(tasks))


def _largest_task(group: Group) -> int:
    return max((task.shape.total_milli for task in group.all_tasks()), default=0)


class _OutOfSteps(Exception):
    """The bound of the search is reached."""


class _Search:
    """One search. A method yields whenever its part is placed, and undoes it when asked for another way."""

    def __init__(self, free: SharedNodes, tree: Tree, ways: Ways) -> None:
        self._free = free
        self._tree = tree
        self._ways = ways
        self._steps = 0
        self._placed: list[tuple[TaskPlacement, _Row]] = []

    def finish(self) -> tuple[TaskPlacement, ...]:
        """Say what is placed and give it all back."""
        placed = tuple(placement for placement, _ in self._placed)
        while self._placed:
            self._undo()
        return placed

    def group(self, group: Group, rows: BoolColumn, near: IntColumn | None) -> Iterator[bool]:
        """Place a group inside ``rows``; ``near`` (N,) ranks nodes as the groups around it wish."""
        for inside in self._domains(group, rows):
            nearest = near if group.preferred is None else self._nearness(group.preferred, inside)
            yield from self._parts(group, 0, inside, nearest)

    def _parts(self, group: Group, done: int, rows: BoolColumn, near: IntColumn | None) -> Iterator[bool]:
        if done == len(group.parts):
            yield from self._tasks(group.tasks, rows, near)
            return
        for _ in self.group(group.parts[done], rows, near):
            yield from self._parts(group, done + 1, rows, near)

    def _tasks(self, tasks: tuple[Task, ...], rows: BoolColumn, near: IntColumn | None) -> Iterator[bool]:
        if not tasks:
            yield True
            return
        choices = [iter(self._nodes(tasks[0], rows, near))]  # one iterator per task placed or being placed
        while choices:
            row = next(choices[-1], None)
            if row is None:
                choices.pop()
                if choices:
                    self._undo()
                continue
            self._take(tasks[len(choices) - 1], row)
            if len(choices) < len(tasks):
                choices.append(iter(self._nodes(tasks[len(choices)], rows, near)))
                continue
            yield True
            self._undo()

    def _domains(self, group: Group, rows: BoolColumn) -> Iterator[BoolColumn]:
        """Node sets to try: narrow before wide, then the least free, then the lower number."""
        narrowest = group.required if group.preferred is None else group.preferred
        widest = 0 if group.required is None else group.required
        for level in range(-1 if narrowest is None else narrowest, widest - 1, -1):
            for domain in self._by_room(level, rows):
                inside = self._members(level, domain) & rows
                if self._keeps_together(group, inside) and self._may_hold(group, inside):
                    yield inside
        if group.required is None and self._may_hold(group, rows):
            yield rows

    def _by_room(self, level: int, rows: BoolColumn) -> list[int]:
        amounts = self._room(level, rows)
        order: list[int] = np.lexsort((np.arange(len(amounts)), amounts)).tolist()
        return order

    def _room(self, level: int, rows: BoolColumn) -> IntColumn:
        """(D_level,) GPU milli free on the nodes of ``rows``."""
        tree = self._tree
        milli = np.where(rows, self._free.gpu.sum(axis=1), 0)[tree.rows]
        size = len(tree.paths[level])
        return np.bincount(tree.columns[:, level], weights=milli, minlength=size).astype(np.int64)

    def _members(self, level: int, domain: int) -> BoolColumn:
        mask = np.zeros(len(self._free.cpu), dtype=bool)
        mask[self._tree.rows[self._tree.columns[:, level] == domain]] = True
        return mask

    def _keeps_together(self, group: Group, inside: BoolColumn) -> bool:
        return group.required is None or all(inside[row] for row in group.held)

    def _may_hold(self, group: Group, inside: BoolColumn) -> bool:
        """Rule out node sets too small for the sum of the tasks, or for those of one shape alone."""
        alike = Counter((task.shape, id(task.allowed)) for task in group.all_tasks())
        wanted = sum(shape.total_milli * number for (shape, _), number in alike.items())
        if wanted > int(self._free.gpu[inside].sum()):
            return False
        sample = {(task.shape, id(task.allowed)): task for task in group.all_tasks()}
        return all(self._capacity(sample[kind], inside) >= number for kind, number in alike.items())

    def _capacity(self, task: Task, inside: BoolColumn) -> int:
        """How many tasks like this one the nodes could take if they took nothing else."""
        free, shape = self._free, task.shape
        rows = np.flatnonzero(self._fitting(task, inside))
        room = np.full(len(rows), np.iinfo(np.int32).max, dtype=np.int64)
        if shape.gpus:
            room = (free.gpu[rows] // shape.gpu_milli).sum(axis=1) // shape.gpus
        for column, amount in ((free.cpu, shape.cpu_milli), (free.memory, shape.memory_mib)):
            if amount:
                room = np.minimum(room, column[rows] // amount)
        return int(room.sum())

    def _nearness(self, level: int, rows: BoolColumn) -> IntColumn:
        """(N,) rank of each node's domain: the emptiest first, of equals the later one."""
        order = self._by_room(level, rows)[::-1]
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        nearness = np.full(len(rows), len(order), dtype=np.int64)
        nearness[self._tree.rows] = rank[self._tree.columns[:, level]]
        return nearness

    def _fitting(self, task: Task, rows: BoolColumn) -> BoolColumn:
        fitting = self._free.fits(task.shape) & rows
        return fitting if task.allowed is None else fitting & task.allowed

    def _nodes(self, task: Task, rows: BoolColumn, near: IntColumn | None) -> list[int]:
        """Nodes that can take a task now, best first; of equals the lower row."""
        free = self._free
        fitting = np.flatnonzero(self._fitting(task, rows))
        milli = free.gpu.sum(axis=1)
        keys: list[NDArray[Any]] = [fitting]
        if self._ways.nodes is Packing.PACK:
            keys.append(milli[fitting])
        elif self._ways.nodes is Packing.SPREAD:
            keys.append(-(milli[fitting] / np.maximum(free.gpus[fitting], 1)))
        if task.shape.is_part and self._ways.nodes is not Packing.SPREAD:
            parts = (free.gpu[fitting] < WHOLE) & (free.gpu[fitting] >= task.shape.gpu_milli)
            keys.append(np.logical_not(parts.any(axis=1)))
        if near is not None:
            keys.append(near[fitting])
        best_first: list[int] = fitting[np.lexsort(keys)].tolist()
        return best_first

    def _take(self, task: Task, row: int) -> None:
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise _OutOfSteps
        devices = self._devices(task.shape, row)
        before = _Row.of(self._free, row)
        self._free.take(row, task.shape, devices)
        self._placed.append((TaskPlacement(task.name, row, devices), before))

    def _undo(self) -> None:
        placement, before = self._placed.pop()
        before.restore(self._free, placement.row)

    def _devices(self, shape: Shape, row: int) -> tuple[int, ...]:
        if not shape.is_part:
            return self._free.whole_devices(row, shape.gpus)
        if self._ways.gpus is Packing.SPREAD:
            return (int(self._free.gpu[row].argmax()),)
        return (self._free.fullest_device(row, shape.gpu_milli),)


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """What was free on one node, to be put back."""

    cpu: int
    memory: int
    whole: int
    gpu: IntColumn

    @classmethod
    def of(cls, free: SharedNodes, row: int) -> _Row:
        return cls(int(free.cpu[row]), int(free.memory[row]), int(free.whole[row]), free.gpu[row].copy())

    def restore(self, free: SharedNodes, row: int) -> None:
        free.cpu[row], free.memory[row], free.whole[row] = self.cpu, self.memory, self.whole
        free.gpu[row] = self.gpu
