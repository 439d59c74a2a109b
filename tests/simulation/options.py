"""What a seed decides before anything runs: the cluster, the work, and which faults come how often.

Each fault is left out of about half of all seeds ("swarm testing", Groce et al., ISSTA 2012): faults
that are always all there hide each other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Of one seed. A mean of None: never."""

    nodes: int
    gpus: int  # per node
    clients: int
    requests: int  # per client
    faults_s: float  # how long the faults last
    is_sqlite: bool  # the real store, else a model of it
    requeue_share: float  # of jobs that may run again
    latency_s: float  # mean, one way
    fsync_s: float  # mean of a commit
    slow_fsync: float  # probability of one that takes seconds
    kept_attempts: int  # folders an agent keeps
    # mean seconds between two
    head_crash_s: float | None
    head_pause_s: float | None
    agent_crash_s: float | None
    agent_pause_s: float | None
    reboot_s: float | None
    shim_death_s: float | None
    reset_s: float | None
    partition_s: float | None
    outage_s: float | None  # of the store
    disk_full_s: float | None  # on a node
    clock_jump_s: float | None
    drain_s: float | None
    replay_s: float | None
    sick_s: float | None  # a node, or a device of it
    head_cut_s: float | None  # from the store alone; it takes a standby to matter
    # probabilities
    rpc_loss: float  # of a request, and of an answer
    commit_refused: float
    commit_unknown: float  # written, and reported as failed
    fork_twice: float
    fork_refused: float
    has_standby: bool  # a second head takes over from one that is dead or stalled

    @classmethod
    def draw(cls, random: Random, *, sqlite_share: float) -> Options:
        """Draw them all."""

        def sometimes(low: float, high: float) -> float | None:
            return round(random.uniform(low, high), 1) if random.random() < 0.5 else None

        def chance(most: float) -> float:
            return round(random.uniform(0, most), 3) if random.random() < 0.5 else 0.0

        return cls(
            nodes=random.randint(1, 5),
            gpus=random.randint(1, 4),
            clients=random.randint(1, 3),
            requests=random.randint(2, 25),
            faults_s=round(random.uniform(60, 240), 1),
            is_sqlite=random.random() < sqlite_share,
            requeue_share=random.choice((0.0, 0.3, 0.7, 1.0)),
            latency_s=random.choice((0.001, 0.01, 0.2)),
            fsync_s=random.choice((0.0005, 0.005, 0.05)),
            slow_fsync=chance(0.05),
            kept_attempts=random.choice((1, 3, 1000)),
            head_crash_s=sometimes(5, 60),
            head_pause_s=sometimes(20, 90),
            agent_crash_s=sometimes(5, 60),
            agent_pause_s=sometimes(20, 90),
            reboot_s=sometimes(30, 120),
            shim_death_s=sometimes(10, 60),
            reset_s=sometimes(3, 30),
            partition_s=sometimes(10, 60),
            outage_s=sometimes(20, 90),
            disk_full_s=sometimes(20, 90),
            clock_jump_s=sometimes(10, 60),
            drain_s=sometimes(20, 90),
            replay_s=sometimes(3, 60),
            rpc_loss=chance(0.3),
            commit_refused=chance(0.1),
            commit_unknown=chance(0.1),
            fork_twice=chance(0.3),
            fork_refused=chance(0.1),
            has_standby=random.random() < 0.5,
            sick_s=sometimes(15, 90),
            head_cut_s=sometimes(15, 60),
        )

    def __str__(self) -> str:
        given = {name: value for name, value in asdict(self).items() if value not in (None, 0.0, False)}
        return " ".join(f"{name}={value}" for name, value in given.items())
