"""Views as JSON: sizes in ``_bytes``, durations in ``_s``, instants RFC 3339 in UTC, money as text.

The keys are those of the domain types, so they are named once; a key that ends in ``_us`` there
loses it here (``ended_at_us`` is ``ended_at``), since its value is no number any more. Absent is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

from gpusched.cli import efficiency
from gpusched.cli.quantities import rfc3339
from gpusched.domain.job import Job
from gpusched.domain.launch_plan import LaunchPlan, NodeLaunch, TaskLaunch
from gpusched.domain.logs import LogChunk
from gpusched.domain.usage import ChargeLine, CostReport
from gpusched.wire.handlers import JobView, NodeView, PlanPreview


def job_json(view: JobView, now_us: int) -> dict[str, Any]:
    """One job: ``spec`` as submitted, ``nodes`` in rank order with their devices, measured use and cost."""
    job = view.job
    measured = efficiency.of_view(view, now_us)
    return {
        "job_id": job.job_id,
        "name": job.spec.name,
        "state": job.state.value,
        "reason": _reason(view),
        "detail": _detail(job),
        "stall": None if job.attempt is None else plain(job.attempt.stall),
        "slowness": None if job.attempt is None else plain(job.attempt.slowness),
        "underused": None if job.attempt is None else job.attempt.underused,
        "exit_code": job.exit_code,
        "is_held": job.is_held,
        "held_until": _instant(job.held_until_us),
        "restarts": job.restarts,
        "owner": plain(job.owner),
        "epoch": None if job.attempt is None else job.attempt.epoch,
        "submitted_at": rfc3339(job.submitted_at_us),
        "started_at": _instant(job.started_at_us),
        "ended_at": _instant(job.ended_at_us),
        "spec": {**plain(job.spec), "env": dict(job.spec.env)},
        "nodes": [] if job.attempt is None else plain(job.attempt.allocation.nodes),
        "uses": [{"node": node, **plain(use)} for node, use in view.uses],
        "efficiency": plain(measured),
        "cost": view.cost,
        "currency": view.currency,
        "ring": plain(view.ring),
    }


def _reason(view: JobView) -> str | None:
    reason = view.job.end_reason or view.pending_reason
    return None if reason is None else reason.value


def _detail(job: Job) -> str | None:
    if job.end_detail is not None:
        return job.end_detail
    return None if job.attempt is None else job.attempt.stop_detail


def _instant(at_us: int | None) -> str | None:
    return None if at_us is None else rfc3339(at_us)


def node_json(view: NodeView) -> dict[str, Any]:
    """One node: facts, what operators decided, newest sample, what runs there."""
    body: dict[str, Any] = plain(view)
    body.update(body.pop("node"))
    facts = body.pop("facts")
    facts.pop("name")
    return {"node": view.node.name, **body, "facts": facts}


def plan_json(preview: PlanPreview) -> dict[str, Any]:
    """What a dry run shows."""
    return {
        "diagnosis": plain(preview.diagnosis),
        "nodes": None if preview.plan is None else launch_json(preview.plan),
        "price_per_hour": preview.price_per_hour,
        "currency": preview.currency,
        "ring": plain(preview.ring),
    }


def launch_json(plan: LaunchPlan) -> list[dict[str, Any]]:
    """Every node of a launch plan in rank order; ``env`` is an object per task."""
    return [_node_launch(node) for node in plan.nodes]


def _node_launch(node: NodeLaunch) -> dict[str, Any]:
    return {**plain(node), "tasks": [task_json(task) for task in node.tasks]}


def task_json(task: TaskLaunch) -> dict[str, Any]:
    """One rank's launch."""
    return {**plain(task), "env": dict(task.env)}


def chunk_json(chunk: LogChunk) -> dict[str, Any]:
    """One run of log bytes; what is not UTF-8 in it is replaced."""
    body: dict[str, Any] = plain(chunk)
    body["text"] = chunk.data.decode("utf-8", "replace")
    return body


def stacks_json(chunk: LogChunk) -> dict[str, Any]:
    """What one rank was doing, as text."""
    text = chunk.data.decode("utf-8", "replace")
    return {"global_rank": chunk.global_rank, "node": chunk.node, "text": text}


def cost_json(report: CostReport) -> dict[str, Any]:
    """A cost report; ``gpu_s`` is exact to the microsecond."""
    body: dict[str, Any] = plain(report)
    body["lines"] = [line_json(line) for line in report.lines]
    return body


def line_json(line: ChargeLine) -> dict[str, Any]:
    """One row of a cost report."""
    return {
        "key": line.key,
        "usage_class": line.usage_class.value,
        "gpu_s": line.gpu_us / 1_000_000,
        "cost": str(line.cost),
        "billed_cost": str(line.billed_cost),
    }


def plain(value: Any) -> Any:
    """A domain value as what ``json`` can write. Bytes are left out: their owner decides how to show them."""
    if is_dataclass(value) and not isinstance(value, type):
        return dict(
            _field(item.name, getattr(value, item.name))
            for item in fields(value)
            if not isinstance(getattr(value, item.name), bytes)
        )
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _field(name: str, value: Any) -> tuple[str, Any]:
    if name.endswith("_us"):
        several = isinstance(value, tuple)
        return name.removesuffix("_us"), list(map(rfc3339, value)) if several else _instant(value)
    return name, plain(value)
