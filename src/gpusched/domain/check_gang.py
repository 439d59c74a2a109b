"""What is wrong with how the nodes of a gang differ, which they are, and how near they must be."""

from __future__ import annotations

from gpusched.domain.check_program import check_what_runs, check_words
from gpusched.domain.check_resources import check_memory, check_shape
from gpusched.domain.check_value import Check, digits, shown
from gpusched.domain.errors import Violation
from gpusched.domain.hostlist import NAMES_MAX, NODE_NAME
from gpusched.domain.job_spec import Component, JobSpec, Launcher
from gpusched.domain.spec_limits import COMPONENTS_MAX, IDENTIFIER

_LIKE_NODES = JobSpec(name="_")
_WRITTEN = {"memory_bytes": "mem", "gpu_memory_bytes": "gpu_mem"}  # as a job file calls them


def check_components(spec: JobSpec) -> Check:
    """Whether a gang of unlike components says everything in them, and nothing twice."""
    if not spec.components:
        return
    if len(spec.components) > COMPONENTS_MAX:
        yield Violation(
            "components",
            f"are {len(spec.components)}, the limit is {COMPONENTS_MAX}; join those that are alike",
        )
    for field in ("gpus_per_node", "tasks_per_node", "cpus_per_task", "memory_bytes", "gpu_model"):
        if getattr(spec, field) != getattr(_LIKE_NODES, field):
            yield Violation(
                _WRITTEN.get(field, field), "is said by every component; remove it beside components"
            )
    for field in ("gpu_memory_bytes", "mig_profile", "segment", "spread"):
        if getattr(spec, field) is not None:
            yield Violation(
                _WRITTEN.get(field, field), "needs nodes that are alike; remove it, or components"
            )
    if spec.launcher is Launcher.TORCHRUN:
        yield Violation("launcher", "torchrun needs nodes that are alike; drop launcher, or components")
    if spec.nodes != sum(part.nodes for part in spec.components):
        yield Violation("nodes", "is not the sum of the components' nodes; leave it out")
    if len({part.name for part in spec.components}) < len(spec.components):
        yield Violation("components", "two have one name; rename one")
    for place, (component, part) in enumerate(zip(spec.components, spec.parts, strict=True)):
        for violation in _check_component(spec, component, part):
            yield Violation(f"components[{place}].{violation.field}", violation.message)


def _check_component(spec: JobSpec, component: Component, part: JobSpec) -> Check:
    if IDENTIFIER.fullmatch(component.name) is None:
        yield Violation(
            "name", f"{shown(component.name)} is not a name; use letters, digits, '.', '-' and '_'"
        )
    if component.command and spec.script is not None:
        yield Violation("command", "and a script for the whole job are two things to run; keep one")
    elif component.command:
        yield from check_what_runs(part)
    yield from check_shape(part)
    yield from check_memory(part)
    if component.gpu_model is not None and component.gpus_per_node == 0:
        yield Violation("gpu_model", "needs gpus_per_node: say how many GPUs each node must give")
    yield from check_words(part)


def check_nodes_named(spec: JobSpec) -> Check:
    """Nodes by name, as many as are asked for."""
    for field, names in (("nodelist", spec.nodelist), ("exclude", spec.exclude)):
        if len(names) > NAMES_MAX:
            yield Violation(field, f"names {len(names)} nodes, the limit is {NAMES_MAX}; name fewer")
        wrong = next((name for name in names if NODE_NAME.fullmatch(name) is None), None)
        if wrong is not None:
            yield Violation(field, f"{shown(wrong)} is no host name; use letters, digits, '.', '-' and '_'")
    usable = set(spec.nodelist) - set(spec.exclude)
    if spec.nodelist and len(usable) < spec.nodes:
        yield Violation(
            "nodelist",
            f"leaves {len(usable)} nodes for a job of {digits(spec.nodes)}; name more, or ask for fewer",
        )


def check_topology(spec: JobSpec) -> Check:
    """Whether the levels exist is for the cluster to say; what divides what can be said here."""
    for field, level in (
        ("topology_required", spec.topology_required),
        ("topology_preferred", spec.topology_preferred),
        ("segment", None if spec.segment is None else spec.segment.level),
    ):
        if level is not None and IDENTIFIER.fullmatch(level) is None:
            yield Violation(field, f"{shown(level)} is no name of a level; see gpusched topology show")
    if spec.segment is None:
        return
    size, per_node = spec.segment.size, spec.tasks_per_node
    if size < 1 or spec.world_size % size:
        yield Violation(
            "segment",
            f"{digits(size)} ranks do not divide the gang of {digits(spec.world_size)}; "
            "give a number that does",
        )
    elif per_node > 0 and size % per_node and per_node % size:
        yield Violation(
            "segment",
            f"{digits(size)} ranks cut through nodes of {digits(per_node)}; "
            "give whole nodes, or a number that divides a node's ranks",
        )
