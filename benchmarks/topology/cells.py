"""Guaranteed cells: a tenant owns shapes of the machine, and which machine is settled when it comes.

H. Zhao et al., "HiveD: Sharing a GPU Cluster for Deep Learning with Guarantees", OSDI 2020. A tenant
is promised so many cells of a kind (two nodes, one pair of nodes, a socket). A cell of the promise is
bound to a physical one when first used, as in a buddy allocator: the smallest free cell that holds
it is split, and only where enough whole cells are left for every other promise. Cost: O(GPUs) per
task and candidate cell.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.placement.domains import GangAsk, Shortfall
from gpusched.placement.topology import place_on_tree
from gpusched.placement.tree import BoolColumn, IntColumn, Tree

PRIORITY_MAX = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """All trees of one kind of machine. The tree's levels are cell types, its leaves are GPUs."""

    name: str
    tree: Tree
    node_level: int  # a task stays inside one cell of it

    @property
    def gpu_type(self) -> str:
        """The type of the GPUs."""
        return self.tree.levels[-1]

    def inside(self, level: int, domain: int) -> BoolColumn:
        """(G,) GPUs of one cell."""
        mask: BoolColumn = self.tree.columns[:, level] == domain
        return mask

    def parts(self, level: int, inner: int) -> int:
        """Cells of ``inner`` in one of ``level``: all of a type are alike."""
        return len(np.unique(self.tree.columns[self.tree.columns[:, level] == 0, inner]))


@dataclass(frozen=True, slots=True)
class Promise:
    """Cells of one type that a tenant can always have."""

    tenant: str
    chain: str
    level: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """One physical cell that is a tenant's: by name for good, else until its last task ends."""

    tenant: str
    chain: str
    level: int
    domain: int
    pinned: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellGang:
    """Tasks that start together. ``priority`` None: whatever is idle, and may be taken away."""

    tenant: str
    priority: int | None
    tasks: tuple[tuple[str, int], ...]  # (name, GPUs)
    gpu_type: str | None = None
    pinned: str | None = None


@dataclass(frozen=True, slots=True)
class CellPlacement:
    """One task's GPUs, as rows of its chain."""

    task: str
    chain: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A task that holds GPUs."""

    placement: CellPlacement
    tenant: str
    priority: int | None


def check_gang(priority: int | None, members: Sequence[tuple[int, int]], sizes: Sequence[int]) -> None:
    """Refuse a gang that contradicts itself.

    Args:
        priority: None, or 0 to ``PRIORITY_MAX``.
        members: (tasks, GPUs of each) as declared.
        sizes: GPUs of every task that has come so far.

    Raises:
        InvalidSpec: The priority is out of range, or more tasks of a size came than were declared.
    """
    if priority is not None and not 0 <= priority <= PRIORITY_MAX:
        raise InvalidSpec((Violation("priority", f"{priority} is outside 0 to {PRIORITY_MAX}"),))
    declared = Counter({size: 0 for _, size in members})
    for tasks, size in members:
        declared[size] += tasks
    for size, tasks in Counter(sizes).items():
        if tasks > declared[size]:
            raise InvalidSpec(
                (Violation("gang", f"declares {declared[size]} tasks of {size} GPUs, not {tasks}"),)
            )


class Cells:
    """Who owns which cell and who uses it. ``place`` changes it; a copy is the undo.

    Attributes:
        held: Every task that holds GPUs, by name.
    """

    def __init__(self, chains: Sequence[Chain], promises: Sequence[Promise], pinned: Sequence[Owner]) -> None:
        """Start with nothing used; pinned cells belong to their tenants from the start."""
        self._chains = {chain.name: chain for chain in chains}
        self._unbound: Counter[tuple[str, str, int]] = Counter()
        for promise in promises:
            self._unbound[promise.tenant, promise.chain, promise.level] += promise.count
        self._owner: dict[str, list[Owner | None]] = {
            chain.name: [None] * len(chain.tree.columns) for chain in chains
        }
        self._user: dict[str, list[str | None]] = {
            chain.name: [None] * len(chain.tree.columns) for chain in chains
        }
        self.held: dict[str, Held] = {}
        for cell in pinned:
            self._bind(cell)

    def copy(self) -> Cells:
        """Cells that change on their own; the trees are shared."""
        other = copy.copy(self)
        other._unbound = self._unbound.copy()
        other._owner = {name: list(owners) for name, owners in self._owner.items()}
        other._user = {name: list(users) for name, users in self._user.items()}
        other.held = dict(self.held)
        return other

    def place(self, gang: CellGang) -> tuple[CellPlacement, ...] | None:
        """Give every task its GPUs, or none any; takes nothing from anybody.

        Chains are tried in descending order of their names. In a chain: nodes on which the tenant's
        cells have fewest free GPUs, then the nearest to the gang's other tasks, then new cells.
        """
        for name in sorted(self._chains, reverse=True):
            chain = self._chains[name]
            if gang.gpu_type not in (None, chain.gpu_type):
                continue
            trial = self.copy()
            placed = trial._place_in(chain, gang)
            if placed is not None:
                self._unbound, self._owner, self._user = trial._unbound, trial._owner, trial._user
                self.held = trial.held
                return placed
        return None

    def victims(self, gang: CellGang) -> tuple[str, ...] | None:
        """Tasks that would have to go for a gang that ``place`` refuses; None if that would not help.

        Only what has no guarantee, or is the tenant's own and of lower priority, may have to go.
        """
        if gang.priority is None:
            return None
        movable = [
            name
            for name, held in sorted(self.held.items(), key=lambda item: (item[1].priority or -1, item[0]))
            if held.priority is None or (held.tenant == gang.tenant and held.priority < gang.priority)
        ]
        trial, gone = self.copy(), []
        for name in movable:
            trial.release(name)
            gone.append(name)
            if trial.copy().place(gang) is not None:
                return self._fewest(gang, gone)
        return None

    def _fewest(self, gang: CellGang, gone: Sequence[str]) -> tuple[str, ...]:
        """Leave out every task that need not go after all."""
        needed = list(gone)
        for name in gone:
            trial = self.copy()
            for other in needed:
                if other != name:
                    trial.release(other)
            if trial.place(gang) is not None:
                needed.remove(name)
        return tuple(sorted(needed))

    def release(self, task: str) -> None:
        """Free a task's GPUs, and its cell with the last task under the promise."""
        placement = self.held.pop(task).placement
        users, owners = self._user[placement.chain], self._owner[placement.chain]
        for row in placement.rows:
            users[row] = None
        owner = owners[placement.rows[0]]
        if owner is None or owner.pinned is not None or self._is_used(owner):
            return
        for row in self._rows_of(owner):
            owners[row] = None
        self._unbound[owner.tenant, owner.chain, owner.level] += 1

    def _is_used(self, owner: Owner) -> bool:
        users = (self._user[owner.chain][row] for row in self._rows_of(owner))
        return any(user is not None and self.held[user].priority is not None for user in users)

    def _rows_of(self, owner: Owner) -> list[int]:
        rows: list[int] = np.flatnonzero(self._chains[owner.chain].inside(owner.level, owner.domain)).tolist()
        return rows

    def _place_in(self, chain: Chain, gang: CellGang) -> tuple[CellPlacement, ...] | None:
        placed: list[CellPlacement] = []
        for name, gpus in sorted(gang.tasks, key=lambda task: -task[1]):
            rows = self._rows_for(chain, gang, gpus, placed)
            if rows is None:
                return None
            placement = CellPlacement(name, chain.name, rows)
            for row in rows:
                self._user[chain.name][row] = name
            self.held[name] = Held(placement, gang.tenant, gang.priority)
            placed.append(placement)
        return tuple(placed)

    def _rows_for(
        self, chain: Chain, gang: CellGang, gpus: int, placed: Sequence[CellPlacement]
    ) -> tuple[int, ...] | None:
        idle = np.array([user is None for user in self._user[chain.name]])
        if gang.priority is None:
            return self._best_node(chain, idle, gpus, placed, avoid=self._guaranteed_use(chain))
        owned = self._owned(chain, gang)
        rows = self._best_node(chain, idle & owned, gpus, placed, avoid=np.zeros(len(idle), dtype=np.int64))
        if rows is not None or gang.pinned is not None:
            return rows
        for level, domain in self._new_cells(chain, gang.tenant, idle, gpus):
            self._bind(Owner(tenant=gang.tenant, chain=chain.name, level=level, domain=domain))
            self._unbound[gang.tenant, chain.name, level] -= 1
            inside = idle & chain.inside(level, domain)
            return self._best_node(chain, inside, gpus, placed, avoid=np.zeros(len(idle), dtype=np.int64))
        return None

    def _best_node(
        self,
        chain: Chain,
        usable: BoolColumn,
        gpus: int,
        placed: Sequence[CellPlacement],
        *,
        avoid: IntColumn,
    ) -> tuple[int, ...] | None:
        """The node with enough usable GPUs: least of ``avoid`` on it, then the fewest, then the nearest."""
        column, size = chain.tree.columns[:, chain.node_level], len(chain.tree.paths[chain.node_level])
        counts = np.bincount(column, weights=usable, minlength=size)
        able = np.flatnonzero(counts >= gpus)
        if not len(able):
            return None
        used = np.bincount(column, weights=avoid, minlength=size) > 0
        far = np.array([self._distance(chain, int(node), placed) for node in able])
        node = int(able[np.lexsort((able, far, counts[able], used[able]))[0]])
        room = np.where(usable & (column == node), 1, 0)
        leaves = chain.tree.leaf_room(room)
        found = place_on_tree(chain.tree, leaves, GangAsk(count=gpus, preferred=chain.tree.depth - 1))
        assert not isinstance(found, Shortfall), "the node has enough"
        return tuple(np.flatnonzero(found[chain.tree.leaf_of] > 0).tolist())

    def _distance(self, chain: Chain, node: int, placed: Sequence[CellPlacement]) -> int:
        """Levels that a node does not share with the gang's other tasks, summed."""
        row = int(np.flatnonzero(chain.tree.columns[:, chain.node_level] == node)[0])
        mine = chain.tree.columns[row]
        return sum(
            int((chain.tree.columns[part.rows[0]] != mine)[: chain.node_level + 1].sum()) for part in placed
        )

    def _guaranteed_use(self, chain: Chain) -> IntColumn:
        users = self._user[chain.name]
        return np.array(
            [user is not None and self.held[user].priority is not None for user in users], dtype=np.int64
        )

    def _owned(self, chain: Chain, gang: CellGang) -> BoolColumn:
        mine = (gang.tenant, gang.pinned)
        owners = self._owner[chain.name]
        return np.array([owner is not None and (owner.tenant, owner.pinned) == mine for owner in owners])

    def _new_cells(self, chain: Chain, tenant: str, idle: BoolColumn, gpus: int) -> Iterator[tuple[int, int]]:
        """Physical cells for the tenant's next promise: the narrowest that suffices, splitting least."""
        for level in range(chain.tree.depth - 1, -1, -1):
            if not self._unbound[tenant, chain.name, level]:
                continue
            unowned = np.array([owner is None for owner in self._owner[chain.name]])
            whole = [
                domain
                for domain in range(len(chain.tree.paths[level]))
                if unowned[chain.inside(level, domain)].all()
            ]
            for domain in sorted(whole, key=lambda d: (self._splits(chain, level, d, unowned), d)):
                inside = idle & chain.inside(level, domain)
                node = chain.tree.columns[:, chain.node_level]
                is_enough = np.bincount(node[inside], minlength=1).max(initial=0) >= gpus
                if is_enough and self._leaves_enough(chain, tenant, level, domain):
                    yield level, domain

    def _splits(self, chain: Chain, level: int, domain: int, unowned: BoolColumn) -> int:
        """How many wider whole cells would be whole no more."""
        row = int(np.flatnonzero(chain.inside(level, domain))[0])
        wider = (chain.inside(above, int(chain.tree.columns[row, above])) for above in range(level))
        return sum(bool(unowned[inside].all()) for inside in wider)

    def _leaves_enough(self, chain: Chain, tenant: str, level: int, domain: int) -> bool:
        """Whether all other promises can still be kept. Exact, as cells of a type are alike."""
        unowned = np.array([owner is None for owner in self._owner[chain.name]])
        unowned &= ~chain.inside(level, domain)
        wanted: Counter[int] = Counter()
        for (_, name, at), count in self._unbound.items():
            if name == chain.name:
                wanted[at] += count
        wanted[level] -= 1
        for inner in range(chain.tree.depth):
            taken = np.bincount(
                chain.tree.columns[:, inner], weights=~unowned, minlength=len(chain.tree.paths[inner])
            )
            needed = sum(count * chain.parts(at, inner) for at, count in wanted.items() if at <= inner)
            if int((taken == 0).sum()) < needed:
                return False
        return True

    def _bind(self, owner: Owner) -> None:
        for row in self._rows_of(owner):
            self._owner[owner.chain][row] = owner
