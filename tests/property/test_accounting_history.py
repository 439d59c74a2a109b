"""The identity over logs as an engine writes them: jobs come, run and end; nodes come and go."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gpusched.domain.allocation import Allocation, GrantedDevice, NodeAllocation
from gpusched.domain.events import (
    AttemptEnded,
    Event,
    JobAllocated,
    JobRequeued,
    JobSubmitted,
    NodeJoined,
    NodeLost,
    NodeReturned,
    OutageBegan,
    OutagesEnded,
    Recorded,
    TasksEnded,
    TasksStarted,
)
from gpusched.domain.health import Condition, Cure, HealthAction, Outage, Signal
from gpusched.domain.identity import Identity
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import EndReason
from gpusched.domain.node import Device, NodeFacts
from gpusched.domain.telemetry import DeviceUse, NodeUse
from gpusched.domain.usage import GroupBy, Rate, RateBook
from gpusched.engine.accounting import cost_report, device_intervals, fold_spans

GPUS = 2
MODEL = "NVIDIA H100 80GB HBM3"
HOUR_US = 3_600_000_000
STEPS = ("join", "lose", "return", "out", "out node", "back", "submit", "start", "end", "requeue")


@dataclass
class Cluster:
    """Writes only logs that an engine could have written: one holder per node at a time."""

    log: list[Recorded] = field(default_factory=list)
    now_us: int = 0
    joined_us: dict[str, int] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    holder: dict[str, tuple[int, int]] = field(default_factory=dict)
    jobs: int = 0
    outages: dict[str, dict[str, Outage]] = field(default_factory=dict)

    def record(self, event: Event) -> None:
        self.log.append(Recorded(len(self.log) + 1, self.now_us, event))

    def step(self, kind: str, node: str, reason: EndReason, busy_s: float | None) -> None:
        match kind:
            case "join" if node not in self.joined_us:
                self.joined_us[node] = self.now_us
                self.record(NodeJoined(node=node, facts=facts(node)))
            case "lose" if node in self.joined_us and node not in self.lost:
                self.lost.add(node)
                self.record(NodeLost(node=node, detail="silent"))
            case "return" if node in self.lost:
                self.lost.remove(node)
                self.record(NodeReturned(node=node))
            case "out" | "out node" if node in self.joined_us and kind not in self.outages.get(node, {}):
                devices = (f"{node}-1",) if kind == "out" else ()
                condition = Condition(signal=Signal.GPU_LOST, detail="", devices=devices)
                outage = Outage(
                    condition=condition, action=HealthAction.RESET, cure=Cure.RESET, devices=devices
                )
                self.outages.setdefault(node, {})[kind] = outage
                self.record(OutageBegan(node=node, outage=outage))
            case "back" if self.outages.get(node):
                _, outage = self.outages[node].popitem()
                self.record(OutagesEnded(node=node, outages=(outage,), by="x"))
            case "submit" if node in self.joined_us and node not in self.holder:
                self.jobs += 1
                spec = JobSpec(name="j", command=("x",), account=f"team{self.jobs % 3}")
                self.record(JobSubmitted(job_id=self.jobs, spec=spec, owner=Identity("ada", 1, 1)))
                self.allocate(node, self.jobs, 1)
            case "start" if node in self.holder:
                job_id, epoch = self.holder[node]
                self.record(TasksStarted(job_id=job_id, epoch=epoch, node=node, pids=(1,)))
            case "end" | "requeue" if node in self.holder:
                job_id, epoch = self.holder.pop(node)
                use = NodeUse(wall_s=1, devices=(DeviceUse(uuid=f"{node}-0", busy_s=busy_s),))
                self.record(
                    TasksEnded(
                        job_id=job_id, epoch=epoch, node=node, exits=(), cause=None, detail=None, use=use
                    )
                )
                self.record(AttemptEnded(job_id=job_id, epoch=epoch, reason=reason, detail=None, exit_code=1))
                if kind == "requeue":
                    self.record(JobRequeued(job_id=job_id, epoch=epoch))
                    self.allocate(node, job_id, epoch + 1)

    def allocate(self, node: str, job_id: int, epoch: int) -> None:
        part = NodeAllocation(
            node=node,
            address="",
            interface=None,
            devices=tuple(GrantedDevice(f"{node}-{gpu}", MODEL, False) for gpu in range(GPUS)),
            cpu_ids=(),
            cpus_pinnable=False,
            memory_bytes=0,
        )
        allocation = Allocation(nodes=(part,), master_port=1, granted_at_us=self.now_us)
        self.holder[node] = (job_id, epoch)
        self.record(JobAllocated(job_id=job_id, epoch=epoch, allocation=allocation))


def facts(node: str) -> NodeFacts:
    return NodeFacts(
        name=node,
        boot_id="b",
        agent_version="1",
        address="",
        interface=None,
        cpu_ids=(0,),
        cpus_pinnable=True,
        memory_bytes=1,
        devices=tuple(Device(uuid=f"{node}-{gpu}", model=MODEL, memory_bytes=None) for gpu in range(GPUS)),
    )


steps = st.lists(
    st.tuples(
        st.sampled_from(STEPS),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 2 * HOUR_US),
        st.sampled_from(EndReason),
        st.none() | st.floats(0, 5000),
    ),
    max_size=60,
)


def run(history: list[tuple[str, str, int, EndReason, float | None]]) -> Cluster:
    cluster = Cluster()
    for node in ("a", "b"):
        cluster.step("join", node, EndReason.COMPLETED, None)
    for kind, node, wait_us, reason, busy_s in history:
        cluster.now_us += wait_us
        cluster.step(kind, node, reason, busy_s)
    return cluster


@given(steps)
def test_the_classes_of_a_history_add_up_to_each_device_s_time_since_its_node_joined(history: list) -> None:
    cluster = run(history)
    end_us = cluster.now_us + 1
    intervals = device_intervals(*fold_spans(cluster.log), 0, end_us)
    expected_us = sum(GPUS * (end_us - joined_us) for joined_us in cluster.joined_us.values())
    assert sum(interval.end_us - interval.start_us for interval in intervals) == expected_us


@given(steps, st.integers(0, 50 * HOUR_US))
def test_jobs_and_idle_and_down_time_cost_what_the_cluster_costs(history: list, change_us: int) -> None:
    cluster = run(history)
    end_us = cluster.now_us + 1
    book = RateBook("EUR", (Rate("*", Decimal("2.49"), 0), Rate("H100", Decimal("3.19"), change_us)))
    intervals = device_intervals(*fold_spans(cluster.log), 0, end_us)
    owed = Decimal(0)
    for joined_us in cluster.joined_us.values():
        before_us = max(0, min(change_us, end_us) - joined_us)
        owed += GPUS * (before_us * Decimal("2.49") + (end_us - joined_us - before_us) * Decimal("3.19"))
    for group in GroupBy:
        report = cost_report(intervals, book, group, 0, end_us)
        assert sum(line.billed_cost for line in report.lines) == report.total
        assert report.total == (owed / HOUR_US).quantize(Decimal("0.01"))


@given(steps)
def test_folding_a_log_again_gives_the_same_spans(history: list) -> None:
    log = run(history).log
    assert fold_spans(log) == fold_spans(iter(log))
