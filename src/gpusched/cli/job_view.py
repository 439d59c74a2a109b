"""Jobs for people: the listing and the long view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from gpusched.cli import efficiency
from gpusched.cli.efficiency import Efficiency
from gpusched.cli.plan_view import device_label, ring_text, show_numbers
from gpusched.cli.quantities import rfc3339, show_ago, show_duration, show_size
from gpusched.cli.screen import Cell, Table, print_fields, print_line, print_table, state_cell
from gpusched.domain.allocation import NodeAllocation
from gpusched.domain.hostlist import fold_hostlist
from gpusched.domain.job import Attempt, Job
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import WHOLE_MILLI
from gpusched.domain.sharing import gpus_text, isolation_of_job
from gpusched.wire.handlers import JobView


def jobs_table(views: Iterable[JobView], now_us: int) -> Table:
    """One row per job: what it is, where it is, and why."""
    columns = ("JOB", "NAME", "USER", "ACCOUNT", "STATE", "GPUS", "NODES", "TIME", "SUBMITTED", "WHERE/WHY")
    table = Table(columns, right=frozenset({"JOB", "GPUS", "NODES", "TIME"}))
    for view in views:
        job, spec = view.job, view.job.spec
        table.add(
            str(job.job_id),
            spec.name,
            job.owner.user,
            spec.account,
            state_cell(job.state.value),
            gpus_text(spec.gpu_milli_total),
            str(spec.nodes),
            _run_time(job, now_us),
            show_ago(job.submitted_at_us, now_us),
            _where_or_why(view),
        )
    return table


def _run_time(job: Job, now_us: int) -> str:
    if job.started_at_us is None:
        return "-"
    return show_duration(((job.ended_at_us or now_us) - job.started_at_us) / 1_000_000)


def _where_or_why(view: JobView) -> str:
    job = view.job
    if job.end_reason is not None and job.state.is_terminal:
        return f"({job.end_reason.value})"
    if view.pending_reason is not None:
        return f"({view.pending_reason.value})"
    return "-" if job.attempt is None else placement_text(job) + _mark(job.attempt)


def _mark(attempt: Attempt) -> str:
    if attempt.stall is not None:
        return f" (stalled, rank {attempt.stall.global_rank})"
    if attempt.slowness is None:
        return ""
    rank = attempt.slowness.global_rank
    return " (slow)" if rank is None else f" (slow, rank {rank})"


def placement_text(job: Job) -> str:
    """The job's nodes as a hostlist, and ``(declared)`` if any of its devices is."""
    if job.attempt is None:
        return "-"
    names = fold_hostlist(job.attempt.node_names)
    has_declared = any(gpu.declared for part in job.attempt.allocation.nodes for gpu in part.devices)
    return f"{names} (declared GPUs)" if has_declared else names


def print_job(view: JobView, now_us: int) -> None:
    """Write one job in full."""
    measured = efficiency.of_view(view, now_us)
    ring = () if view.ring is None else (("Ring", ring_text(view.ring)),)
    print_fields([*_head(view, now_us), *_request(view.job.spec), *ring, *_measured(measured, view)])
    if view.job.attempt is not None:
        print_line("")
        print_table(_placement_table(view.job.attempt.allocation.nodes))


def _head(view: JobView, now_us: int) -> Iterator[tuple[str, Cell]]:
    job = view.job
    yield "Job", f"{job.job_id}  {job.spec.name}"
    yield "State", state_cell(job.state.value)
    reason = job.end_reason or view.pending_reason
    if reason is not None:
        yield "Reason", reason.value
    detail = job.end_detail or (None if job.attempt is None else job.attempt.stop_detail)
    if detail:
        yield "Detail", detail
    if job.attempt is not None and not job.state.is_terminal:
        yield from _noticed(job.attempt, now_us)
    if job.exit_code is not None:
        yield "Exit code", str(job.exit_code)
    yield "Owner", f"{job.owner.user} (account {job.spec.account})"
    if job.attempt is not None:
        again = f" (restart {job.restarts} of {job.spec.restart_limit})" if job.restarts else ""
        yield "Attempt", f"{job.attempt_id}{again}"
    yield "Submitted", _when(job.submitted_at_us, now_us)
    if job.started_at_us is not None:
        yield "Started", _when(job.started_at_us, now_us)
    if job.ended_at_us is not None:
        yield "Ended", _when(job.ended_at_us, now_us)


def _noticed(attempt: Attempt, now_us: int) -> Iterator[tuple[str, Cell]]:
    if attempt.underused is not None:
        yield "Underused", attempt.underused
    for label, found in (("Stalled", attempt.stall), ("Slow", attempt.slowness)):
        if found is not None:
            yield label, f"{found.evidence} (noticed {show_ago(found.noticed_at_us, now_us)})"


def _when(at_us: int, now_us: int) -> str:
    return f"{show_ago(at_us, now_us)} ({rfc3339(at_us)})"


def _request(spec: JobSpec) -> Iterator[tuple[str, Cell]]:
    for component, part in zip(spec.components, spec.parts, strict=False):
        yield f"Component {component.name}", _shape(part)
    if not spec.components:
        yield "Asked for", _shape(spec)
    if (isolation := isolation_of_job(spec)) is not None:
        yield "Isolation", isolation
    if spec.licenses:
        yield "Licences", ", ".join(f"{count} {name}" for name, count in spec.licenses)
    per_node = "" if spec.components else f" ({spec.tasks_per_node} per node)"
    yield "Ranks", f"{spec.world_size}{per_node}"
    yield "Time limit", "none" if spec.time_limit_s is None else show_duration(spec.time_limit_s)
    yield "Runs", " ".join(spec.command) if spec.command else f"a script of {_lines(spec.script)} lines"
    yield "In", spec.workdir
    if spec.comment:
        yield "Comment", spec.comment


def _shape(spec: JobSpec) -> str:
    """What each node gives."""
    each = [_gpus(spec), f"{spec.cpus_per_node} CPUs"]
    each += [show_size(spec.memory_bytes)] if spec.memory_bytes else []
    each += [f"{show_size(spec.disk_bytes)} of disk"] if spec.disk_bytes else []
    each += [f"{count} {name}" for name, count in spec.gres]
    return f"{spec.nodes} node{'' if spec.nodes == 1 else 's'}, each {', '.join(each)}"


def _gpus(spec: JobSpec) -> str:
    if spec.gpus_per_node == 0:
        return "no GPU"
    kind = "GPU" if spec.mig_profile is None else f"MIG slice {spec.mig_profile}"
    return f"{gpus_text(spec.gpus_per_node * spec.gpu_milli)} x {spec.gpu_model or 'any'} {kind}"


def _lines(script: str | None) -> int:
    return len((script or "").splitlines())


def _measured(measured: Efficiency, view: JobView) -> Iterator[tuple[str, Cell]]:
    if measured.wall_s is not None:
        yield "Wall time", show_duration(measured.wall_s)
    if measured.wall_s is not None and not view.uses and not view.job.state.is_terminal:
        yield "Efficiency", "measured when the attempt ends"
    elif measured.wall_s is not None:
        yield "CPU busy", "not measured" if measured.cpu_busy is None else f"{measured.cpu_busy:.1%}"
    if measured.gpus_granted and (view.uses or view.job.state.is_terminal or _is_declared(view.job)):
        yield "GPU busy", _gpu_busy(measured, view.job)
    if measured.memory_peak_bytes is not None:
        yield "Memory peak", f"{show_size(measured.memory_peak_bytes)} (largest rank)"
    if measured.gpu_memory_peak_bytes is not None:
        yield "GPU memory peak", show_size(measured.gpu_memory_peak_bytes)
    if measured.energy_j is not None:
        yield "Energy", f"{measured.energy_j / 3600:.4g} Wh"
    if view.cost is not None:
        yield "Cost", f"{Decimal(view.cost):.4f} {view.currency or ''}".rstrip()


def _gpu_busy(measured: Efficiency, job: Job) -> str:
    if measured.gpu_busy is None:
        if job.spec.is_gpu_shared:
            return "not measured (NVML measures the whole device, which others share)"
        return "not measured (declared)" if _is_declared(job) else "not measured"
    part = f" ({measured.gpus_measured} of {measured.gpus_granted} measured)"
    return f"{measured.gpu_busy:.1%} of the time" + (
        part if measured.gpus_measured < measured.gpus_granted else ""
    )


def _is_declared(job: Job) -> bool:
    parts = () if job.attempt is None else job.attempt.allocation.nodes
    return all(gpu.declared for part in parts for gpu in part.devices)


def _placement_table(parts: Iterable[NodeAllocation]) -> Table:
    table = Table(("NODE", "ADDRESS", "CPUS", "MEMORY", "MODEL", "DEVICE"))
    for part in parts:
        cpus = show_numbers(part.cpu_ids) or "-"
        memory = show_size(part.memory_bytes) if part.memory_bytes else "-"
        node = (part.node, part.address, cpus, memory)
        if not part.devices:
            table.add(*node, "-", "-")
        for i, gpu in enumerate(part.devices):
            label = f"{gpu.uuid} (declared)" if gpu.declared else device_label(gpu.uuid)
            label = label if gpu.milli == WHOLE_MILLI else f"{gpus_text(gpu.milli)} of {label}"
            table.add(*(node if i == 0 else ("", "", "", "")), gpu.model, label)
    return table
