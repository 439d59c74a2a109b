"""Nodes for people: the listing, the long view, the links between devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from gpusched.cli.health import health_table
from gpusched.cli.plan_view import show_numbers
from gpusched.cli.quantities import show_ago, show_size
from gpusched.cli.screen import Cell, Table, print_fields, print_line, print_table, state_cell
from gpusched.domain.node import Device, Node, NodeFacts
from gpusched.domain.sharing import gpus_text, isolation_of_device
from gpusched.domain.telemetry import DeviceSample
from gpusched.wire.handlers import NodeView

_NO_SAMPLE = "-"


def node_state(node: Node) -> str:
    """``DOWN`` if it is not reachable, ``AHEAD`` of a restored database, else what operators decided."""
    if node.reachable and node.ahead is not None:
        return "AHEAD"
    return node.schedulability.value if node.reachable else "DOWN"


def _reason(node: Node) -> str | None:
    if node.ahead is None:
        return node.reason
    held = ", ".join(map(str, node.ahead.attempts))
    unknown = f"; it does not know {held}" if held else ""
    return f"the database went back in time; nothing is started{unknown}"


def nodes_table(views: Iterable[NodeView]) -> Table:
    """One row per node."""
    columns = ("NODE", "STATE", "GPUS", "MODEL", "CPUS", "MEMORY", "JOBS", "REASON")
    table = Table(columns, right=frozenset({"GPUS", "CPUS"}))
    for view in views:
        facts = view.node.facts
        table.add(
            facts.name,
            state_cell(node_state(view.node)),
            f"{gpus_text(view.gpu_milli_allocated)}/{len(facts.devices)}",
            models_text(facts),
            f"{view.cpus_allocated}/{len(facts.cpu_ids)}",
            f"{show_size(view.memory_allocated_bytes)} of {show_size(facts.memory_bytes)}",
            ",".join(map(str, view.jobs)) or "-",
            _reason(view.node) or "-",
        )
    return table


def models_text(facts: NodeFacts) -> str:
    """The models of a node's devices, each once, ``(declared)`` where they are."""
    return ", ".join(dict.fromkeys(_model(device) for device in facts.devices)) or "-"


def _model(device: Device) -> str:
    return f"{device.model} (declared)" if device.declared else device.model


def print_node(view: NodeView, now_us: int) -> None:
    """Write one node in full."""
    print_fields(_fields(view, now_us))
    if view.node.facts.devices:
        print_line("")
        print_table(devices_table(view))
    unwell = health_table((view.node,), now_us)
    if unwell.rows:
        print_line("")
        print_table(unwell)


def _fields(view: NodeView, now_us: int) -> Iterator[tuple[str, Cell]]:
    node, facts, sample = view.node, view.node.facts, view.sample
    yield "Node", facts.name
    yield "State", state_cell(node_state(node))
    if (reason := _reason(node)) is not None:
        yield "Reason", reason
    if node.drain_deadline_us is not None:
        yield "Drain deadline", show_ago(node.drain_deadline_us, now_us)
    yield "Address", f"{facts.address} ({facts.interface or 'interface not known'})"
    yield "Joined", show_ago(node.joined_at_us, now_us)
    yield "Jobs", ", ".join(map(str, view.jobs)) or "none"
    yield "GPUs", f"{gpus_text(view.gpu_milli_allocated)} of {len(facts.devices)} allocated"
    yield "CPUs", f"{view.cpus_allocated} of {len(facts.cpu_ids)} allocated"
    yield "Memory", f"{show_size(view.memory_allocated_bytes)} of {show_size(facts.memory_bytes)} allocated"
    if facts.disk_bytes is not None:
        yield "Disk", show_size(facts.disk_bytes)
    if facts.gres:
        yield "Counters", ", ".join(f"{count} {name}" for name, count in facts.gres)
    for text, number in Counter(filter(None, map(isolation_of_device, facts.devices))).items():
        yield "Isolation", f"{number} GPU{'' if number == 1 else 's'}: {text}"
    if sample is not None and sample.cpu_percent is not None:
        yield "CPU busy", f"{sample.cpu_percent:.0f}%"
    yield "Kernel", facts.kernel or "not known"
    yield "Agent", facts.agent_version


def devices_table(view: NodeView) -> Table:
    """One row per device with its newest sample."""
    right = frozenset({"BUSY", "POWER", "TEMP", "NUMA"})
    columns = ("DEVICE", "MODEL", "MEMORY", "BUSY", "USED", "POWER", "TEMP", "NUMA", "CPUS")
    table = Table(columns, right=right)
    samples = {} if view.sample is None else {item.uuid: item for item in view.sample.devices}
    for device in view.node.facts.devices:
        table.add(
            device.uuid,
            _model(device),
            _NO_SAMPLE if device.memory_bytes is None else show_size(device.memory_bytes),
            *sample_cells(samples.get(device.uuid)),
            "-" if device.numa_node is None else str(device.numa_node),
            show_numbers(device.cpu_ids) or "-",
        )
    return table


def sample_cells(sample: DeviceSample | None) -> tuple[str, str, str, str]:
    """Busy, memory used, power and temperature; ``-`` for what was not measured."""
    if sample is None:
        return (_NO_SAMPLE,) * 4
    return (
        _NO_SAMPLE if sample.busy_percent is None else f"{sample.busy_percent:.0f}%",
        _NO_SAMPLE if sample.memory_used_bytes is None else show_size(sample.memory_used_bytes),
        _NO_SAMPLE if sample.power_w is None else f"{sample.power_w:.0f} W",
        _NO_SAMPLE if sample.temperature_c is None else f"{sample.temperature_c:.0f} °C",
    )


def links_table(facts: NodeFacts) -> Table:
    """A square of links: NVLinks if there are any, else how near on PCIe (as ``nvidia-smi topo -m``)."""
    numbers = [f"GPU{i}" for i in range(len(facts.devices))]
    table = Table(("", *numbers, "NUMA", "CPUS", "DEVICE"))
    for number, device in zip(numbers, facts.devices, strict=True):
        links = {
            link.peer: f"NV{link.nvlinks}" if link.nvlinks else _ancestor(link.ancestor)
            for link in device.peers
        }
        cells = ["X" if peer.uuid == device.uuid else links.get(peer.uuid, "?") for peer in facts.devices]
        numa = "-" if device.numa_node is None else str(device.numa_node)
        label = f"{device.uuid} (declared)" if device.declared else device.uuid
        table.add(number, *cells, numa, show_numbers(device.cpu_ids) or "-", label)
    return table


def _ancestor(ancestor: object) -> str:
    return "?" if ancestor is None else str(ancestor)
