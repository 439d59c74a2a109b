"""The language of the placement scenarios: a cluster, its queue and its clock, one line at a time.

levels NAME ...                 the levels of the topology, widest first
licenses NAME:COUNT ...         what the cluster has of each
node NAME [gpus=4xH100+2xA10] [cpus=16] [mem=64] [island=4] [numa=2] [down] [cordoned] [at=s0/l1]
          [shareable=2] [tmp=10] [gres=fpga:1]
                                mem, tmp in GiB; at: the domains it is in, widest first; shareable: how
                                many of its first GPUs
submit JOB [WORD=VALUE ...]     place it and hold what it got; it never ends by itself
release JOB                     give back what it holds
explain [WORD=VALUE ...]        why would it wait?
relax [behind=JOB] [WORD=VALUE ...]  what less could it ask for and start now, behind a head that waits?
check [WORD=VALUE ...]          could it ever run?
queue JOB [limit=60] [...]      put it at the end of the queue; limit in seconds
cycle [depth=9]                 plan, and carry the plan out
at SECONDS                      let time pass; jobs that reach their limit end
"""

from __future__ import annotations

from dataclasses import replace

from fakes.clusters import A10, A100, H100, SLICE, give_all_back, make_node, snapshot_of, take_all

from gpusched.domain.errors import GpuschedError, InfeasibleRequest
from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec, Segment, Spread
from gpusched.domain.node import Node, Schedulability
from gpusched.domain.partition import Partition, Partitions
from gpusched.domain.topology import NodePath, Topology, TopologyLevel
from gpusched.placement.diagnose import check_feasible, diagnose
from gpusched.placement.gang import place
from gpusched.placement.placement import Placement
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.backfill import make_plan
from gpusched.policy.plan import QueueEntry, RunningEntry
from gpusched.policy.what_if import WhatIf

MODELS = {"H100": H100, "A100": A100, "A10": A10, "1g.5gb": SLICE}
SECOND_US = 1_000_000
PARTITIONS = Partitions((Partition(name="main"), Partition(name="debug", nodes=("d*",))))


class Script:
    """Answers one line after another; the cluster lives between them."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.levels: tuple[TopologyLevel, ...] = ()
        self.licenses: tuple[tuple[str, int], ...] = ()
        self.places: list[NodePath] = []
        self.snapshot = snapshot_of(partitions=PARTITIONS)
        self.specs: dict[str, JobSpec] = {}
        self.waiting: list[str] = []
        self.held: dict[str, Placement] = {}
        self.ends_us: dict[str, int | None] = {}
        self.now_us = 0

    def answer(self, line: str) -> str:
        verb, *words = line.split()
        return str(getattr(self, f"do_{verb}")(*words))

    def do_levels(self, *names: str) -> str:
        self.levels = tuple(map(TopologyLevel, names))
        return ""

    def do_licenses(self, *words: str) -> str:
        self.licenses = counts(",".join(words))
        return ""

    def do_node(self, name: str, *words: str) -> str:
        assert not self.held, "declare all nodes first"
        given = dict(word.split("=") for word in words if "=" in word)
        models: list[str] = []
        for group in filter(None, given.get("gpus", "").split("+")):
            count, model = group.split("x")
            models += [MODELS[model]] * int(count)
        node = make_node(
            name,
            *models,
            cpus=int(given.get("cpus", 16)),
            memory_bytes=int(given.get("mem", 64)) << 30,
            island=int(given["island"]) if "island" in given else None,
            numa_nodes=int(given.get("numa", 1)),
            shareable=int(given.get("shareable", 0)),
            disk_bytes=int(given["tmp"]) << 30 if "tmp" in given else None,
            gres=counts(given.get("gres", "")),
            reachable="down" not in words,
            schedulability=Schedulability.CORDONED if "cordoned" in words else Schedulability.OPEN,
        )
        self.nodes.append(node)
        if "at" in given:
            self.places.append(NodePath(node.name, tuple(given["at"].split("/"))))
        topology = Topology(self.levels, tuple(self.places))
        self.snapshot = ClusterSnapshot.of(self.nodes, PARTITIONS, 1, topology, self.licenses)
        return ""

    def do_submit(self, job: str, *words: str) -> str:
        try:
            placement = place(self.snapshot, read_spec(job, words))
        except InfeasibleRequest as never:
            return f"{job}: refused: {never}"
        except GpuschedError as not_now:
            return f"{job}: waits: {not_now}"
        self._hold(job, placement, None)
        ring = "" if placement.ring_cost is None else f" (ring {placement.ring_cost})"
        return f"{job}: {where(placement)}{ring}"

    def do_release(self, job: str) -> str:
        give_all_back(self.snapshot, self.held.pop(job))
        del self.ends_us[job]
        return ""

    def do_explain(self, *words: str) -> str:
        diagnosis = diagnose(self.snapshot, read_spec("it", words))
        return f"{diagnosis.reason or 'fits'}: {diagnosis.message}"

    def do_relax(self, *words: str) -> str:
        heads = [word.removeprefix("behind=") for word in words if word.startswith("behind=")]
        head = QueueEntry(JobId(1), self.specs[heads[0]]) if heads else None
        asked = read_spec("it", tuple(word for word in words if not word.startswith("behind=")))
        what_if = WhatIf(self.snapshot, PARTITIONS, self._running(), self.now_us, head)
        found = what_if.relaxations(JobId(2), replace(asked, command=("true",)))
        return "\n".join(relaxed.relaxation.text for relaxed in found) or "nothing"

    def do_check(self, *words: str) -> str:
        try:
            check_feasible(self.snapshot, read_spec("it", words))
        except InfeasibleRequest as never:
            return f"refused: {never}"
        return "accepted"

    def do_queue(self, job: str, *words: str) -> str:
        self.specs[job] = read_spec(job, words)
        self.waiting.append(job)
        return ""

    def do_cycle(self, *words: str) -> str:
        depth = dict(word.split("=") for word in words).get("depth", 100)
        ids = {JobId(number): job for number, job in enumerate(self.specs, start=1)}
        queue = [QueueEntry(number, self.specs[job]) for number, job in ids.items() if job in self.waiting]
        plan = make_plan(self.snapshot, queue, self._running(), self.now_us, depth_max=int(depth))
        answers = []
        for start in plan.starts:
            job = ids[start.job_id]
            limit_s = self.specs[job].time_limit_s
            self._hold(job, start.placement, None if limit_s is None else self.now_us + limit_s * SECOND_US)
            self.waiting.remove(job)
            answers.append(f"{job}: {where(start.placement)}")
        for number, reason in plan.reasons.items():
            start_us = plan.forecasts.get(number)
            forecast = "" if start_us is None else f", could start at {start_us // SECOND_US} s"
            answers.append(f"{ids[number]}: waits ({reason}){forecast}")
        return "\n".join(answers) or "nothing to do"

    def do_at(self, seconds: str) -> str:
        self.now_us = int(seconds) * SECOND_US
        ended = [job for job, end_us in self.ends_us.items() if end_us is not None and end_us <= self.now_us]
        for job in ended:
            self.do_release(job)
        return "\n".join(f"{job}: ended" for job in ended)

    def _running(self) -> list[RunningEntry]:
        return [
            RunningEntry(JobId(1000 + number), placement.nodes, self.ends_us[job], placement.licenses)
            for number, (job, placement) in enumerate(self.held.items())
        ]

    def _hold(self, job: str, placement: Placement, ends_us: int | None) -> None:
        take_all(self.snapshot, placement)
        self.held[job] = placement
        self.ends_us[job] = ends_us


def read_spec(name: str, words: tuple[str, ...]) -> JobSpec:
    given = dict(word.split("=") for word in words)
    segment = given.pop("segment", None)
    size, _, level = (segment or "").partition("@")
    spec = JobSpec(
        name=name,
        nodes=int(given.pop("nodes", 1)),
        gpus_per_node=int(given.pop("gpus", 0)),
        tasks_per_node=int(given.pop("tasks", 1)),
        topology_required=given.pop("required", None),
        topology_preferred=given.pop("preferred", None),
        segment=None if segment is None else Segment(int(size), level),
        spread=Spread(given.pop("spread")) if "spread" in given else None,
        cpus_per_task=int(given.pop("cpus", 1)),
        memory_bytes=int(given.pop("mem", 0)) << 30,
        gpu_model=given.pop("model", None),
        gpu_memory_bytes=int(given.pop("gpu_mem")) << 30 if "gpu_mem" in given else None,
        gpu_milli=int(given.pop("milli", 1000)),
        mig_profile=given.pop("mig", None),
        disk_bytes=int(given.pop("tmp", 0)) << 30,
        gres=counts(given.pop("gres", "")),
        licenses=counts(given.pop("licenses", "")),
        time_limit_s=int(given.pop("limit")) if "limit" in given else None,
        partition=given.pop("partition", None),
        nodelist=tuple(filter(None, given.pop("nodelist", "").split(","))),
        exclude=tuple(filter(None, given.pop("exclude", "").split(","))),
    )
    assert not given, f"unknown words: {', '.join(given)}"
    return spec


def counts(text: str) -> tuple[tuple[str, int], ...]:
    pairs = (part.split(":") for part in filter(None, text.split(",")))
    return tuple((name, int(count)) for name, count in pairs)


def where(placement: Placement) -> str:
    """Write "n0[0,1] n1[0,1]": nodes in rank order, device columns in local rank order."""
    return " ".join(
        part.node + (f"[{','.join(uuid.rsplit('-', 1)[1] for uuid in part.devices)}]" if part.devices else "")
        for part in placement.nodes
    )
