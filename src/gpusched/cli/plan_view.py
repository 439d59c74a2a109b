"""Showing plans and diagnoses: what would start where, with which environment, and why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpusched.cli.quantities import show_ago
from gpusched.cli.screen import Table, print_line, print_table
from gpusched.domain.diagnosis import Diagnosis
from gpusched.domain.ids import DeviceUuid
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import PendingReason
from gpusched.domain.launch_plan import LaunchPlan, TaskLaunch
from gpusched.domain.topology import RingCost
from gpusched.wire.handlers import PlanPreview

_SHOWN_MAX = 60  # characters of an argv in a table


def print_plan(spec: JobSpec, preview: PlanPreview, now_us: int) -> None:
    """Write what a dry run found: nodes, devices, ranks, environment and price; or why it would wait."""
    print_line((spec.name, "bold"), f": {preview.diagnosis.message}")
    if preview.plan is None:
        print_constraints(preview.diagnosis)
        print_forecast(preview.diagnosis, now_us)
        print_relaxations(preview.diagnosis)
    else:
        print_table(ranks_table(preview.plan))
        print_line("")
        print_environment(preview.plan)
        print_line("")
    if preview.ring is not None:
        print_line(f"Ring over the nodes: {ring_text(preview.ring)}")
    if preview.price_per_hour is not None:
        print_line(f"Price: {preview.price_per_hour} {preview.currency or ''} per hour")
    print_line("Nothing was submitted.")


def ring_text(ring: RingCost) -> str:
    """Write "6 links, 0.005 s per GB"."""
    seconds = "" if ring.s_per_gb is None else f", {ring.s_per_gb:.4g} s per GB"
    return f"{ring.links} links{seconds}"


def is_declared(device: DeviceUuid) -> bool:
    """Whether no NVML stands behind a device; its name says so."""
    return device.startswith("DECLARED-")


def device_label(device: DeviceUuid) -> str:
    """A device's UUID, and ``(declared)`` where it is."""
    return f"{device} (declared)" if is_declared(device) else device


def ranks_table(plan: LaunchPlan) -> Table:
    """One row per rank."""
    table = Table(("RANK", "NODE", "LOCAL", "DEVICES", "CPUS", "COMMAND"), right=frozenset({"RANK", "LOCAL"}))
    for node in plan.nodes:
        for task in node.tasks:
            devices = ", ".join(map(device_label, task.devices)) or "-"
            command = " ".join(task.argv)
            shown = command if len(command) <= _SHOWN_MAX else command[: _SHOWN_MAX - 1] + "…"
            ranks = (str(task.global_rank), node.node, str(task.local_rank))
            table.add(*ranks, devices, show_numbers(task.cpu_ids) or "-", shown)
    return table


def show_numbers(numbers: Sequence[int]) -> str:
    """Ascending runs folded: (0, 1, 2, 5) is ``0-2,5``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def print_environment(plan: LaunchPlan, ranks: Sequence[int] | None = None) -> None:
    """Write what all (chosen) ranks share, then what each one has of its own."""
    tasks = [task for node in plan.nodes for task in node.tasks if ranks is None or task.global_rank in ranks]
    shared = _shared(tasks)
    print_line(("Environment" + (" of every rank" if len(tasks) > 1 else ""), "bold"))
    for name, value in sorted(shared.items()):
        print_line(f"  {name}={value}")
    if len(tasks) > 1:
        for task in tasks:
            own = sorted((name, value) for name, value in task.env if name not in shared)
            print_line((f"Rank {task.global_rank}", "bold"))
            for name, value in own:
                print_line(f"  {name}={value}")


def _shared(tasks: Sequence[TaskLaunch]) -> Mapping[str, str]:
    if not tasks:
        return {}
    common = set(tasks[0].env).intersection(*(task.env for task in tasks[1:]))
    return dict(common)


def print_constraints(diagnosis: Diagnosis) -> None:
    """Write what each unmet constraint rules out."""
    if not diagnosis.ruled_out:
        return
    right = frozenset({"NODES", "GPUS"})
    table = Table(("CONSTRAINT", "NODES", "GPUS", "DETAIL"), right=right)
    for item in diagnosis.ruled_out:
        table.add(item.constraint.value, str(item.nodes), str(item.gpus), item.detail)
    print_line("Ruled out, by each constraint on its own:")
    print_table(table)


def print_forecast(diagnosis: Diagnosis, now_us: int) -> None:
    """Write how many nodes fit, who is ahead and when it could start."""
    fits = f"{diagnosis.nodes_fitting_now} now, {diagnosis.nodes_fitting_empty} if nothing ran"
    print_line(f"Nodes that fit: {fits}, of {diagnosis.nodes_total}; it wants {diagnosis.nodes_wanted}")
    if diagnosis.jobs_ahead is not None:
        print_line(f"Jobs ahead: {diagnosis.jobs_ahead}")
    if diagnosis.forecast_start_us is not None:
        print_line(f"Forecast start: {show_ago(diagnosis.forecast_start_us, now_us)}")
    elif diagnosis.reason is PendingReason.RESOURCES:
        print_line("Forecast start: unknown; jobs without a time limit may hold what it needs")


def print_relaxations(diagnosis: Diagnosis) -> None:
    """Write what it could ask for instead and start now."""
    if diagnosis.relaxations:
        print_line("It would start now with any one of these:")
        for relaxation in diagnosis.relaxations:
            print_line(f"  {relaxation.text}")
