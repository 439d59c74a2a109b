"""What an agent says of its machine, checked before anything is computed or written from it.

Facts are kept in the log and every plan is made on them, so a value that arithmetic cannot bear must
not get in: it would be found again at every start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.history import Mark
from gpusched.domain.hostlist import NODE_NAME
from gpusched.domain.ids import AttemptId
from gpusched.domain.node import Device, NodeFacts
from gpusched.domain.spec_limits import (
    COUNT_MAX,
    COUNTERS_MAX,
    CPUS_PER_TASK_MAX,
    GPUS_PER_NODE_MAX,
    IDENTIFIER,
    MEMORY_BYTES_MAX,
    MIG_PROFILE,
)

CPU_ID_MAX = CPUS_PER_TASK_MAX - 1
NUMA_NODE_MAX = 1023  # Linux: MAX_NUMNODES is 1024 at most
SEEN_MAX = 2**53  # what JSON readers still count exactly
LINK_MB_S_MAX = 1_000_000_000
WORD_LENGTH_MAX = 255
LABELS_MAX = 256

_Check = Iterator[Violation]


def require_facts(facts: NodeFacts) -> None:
    """Refuse facts that no machine can have.

    Raises:
        InvalidSpec: With every violation found.
    """
    violations = (*_check_host(facts), *_check_devices(facts.devices))
    if violations:
        raise InvalidSpec(violations)


def require_seen(attempts: Sequence[AttemptId], mark: Mark | None) -> None:
    """Refuse ids that no cluster has come to: the next ones are counted from them.

    Raises:
        InvalidSpec: With the first violation.
    """
    ids = [attempt.job_id for attempt in attempts]
    for field, numbers in (("attempts", ids), ("mark", [] if mark is None else [mark.next_job_id, mark.seq])):
        for violation in (*_number(field, max(numbers, default=0), 0, SEEN_MAX),):
            raise InvalidSpec((violation,))


def _check_host(facts: NodeFacts) -> _Check:
    if NODE_NAME.fullmatch(facts.name) is None:
        yield Violation("name", "is no node's name; use letters, digits, '.', '-' and '_'")
    yield from _words(
        ("boot_id", facts.boot_id),
        ("agent_version", facts.agent_version),
        ("address", facts.address),
        ("interface", facts.interface),
        ("kernel", facts.kernel),
    )
    yield from _number("labels", len(facts.labels), 0, LABELS_MAX)
    for name, value in facts.labels[:LABELS_MAX]:
        yield from _words(("labels", name), ("labels", value))
    yield from _cpus("cpu_ids", facts.cpu_ids)
    for place, cpu_ids in enumerate(facts.numa_cpu_ids[: NUMA_NODE_MAX + 1]):
        yield from _cpus(f"numa_cpu_ids[{place}]", cpu_ids)
    yield from _number("numa_cpu_ids", len(facts.numa_cpu_ids), 0, NUMA_NODE_MAX + 1)
    yield from _number("memory_bytes", facts.memory_bytes, 1, MEMORY_BYTES_MAX)
    if facts.disk_bytes is not None:
        yield from _number("disk_bytes", facts.disk_bytes, 0, MEMORY_BYTES_MAX)
    yield from _number("gres", len(facts.gres), 0, COUNTERS_MAX)
    if len({name for name, _ in facts.gres}) < len(facts.gres):
        yield Violation("gres", "one counter is named twice")
    for name, count in facts.gres[:COUNTERS_MAX]:
        if IDENTIFIER.fullmatch(name) is None:
            yield Violation("gres", "a name has other characters than letters, digits, '.', '-' and '_'")
        yield from _number("gres", count, 0, COUNT_MAX)


def _check_devices(devices: Sequence[Device]) -> _Check:
    yield from _number("devices", len(devices), 0, GPUS_PER_NODE_MAX)
    if len({device.uuid for device in devices}) < len(devices):
        yield Violation("devices", "two have one uuid")
    for place, device in enumerate(devices[:GPUS_PER_NODE_MAX]):
        for violation in _check_device(device):
            yield Violation(f"devices[{place}].{violation.field}", violation.message)


def _check_device(device: Device) -> _Check:
    yield from _words(
        ("uuid", device.uuid),
        ("model", device.model),
        ("pci_bus_id", device.pci_bus_id),
        ("driver_version", device.driver_version),
        ("mig_parent", device.mig_parent),
    )
    if device.mig_profile is not None and MIG_PROFILE.fullmatch(device.mig_profile) is None:
        yield Violation("mig_profile", "is no profile; write like 1g.10gb")
    if device.mig_profile is not None and device.shareable:
        yield Violation("shareable", "is a MIG slice, which one job holds alone")
    if device.memory_bytes is not None:
        yield from _number("memory_bytes", device.memory_bytes, 1, MEMORY_BYTES_MAX)
    if device.numa_node is not None:
        yield from _number("numa_node", device.numa_node, 0, NUMA_NODE_MAX)
    yield from _cpus("cpu_ids", device.cpu_ids)
    yield from _number("peers", len(device.peers), 0, GPUS_PER_NODE_MAX)
    for link in device.peers[:GPUS_PER_NODE_MAX]:
        yield from _words(("peers.peer", link.peer))
        yield from _number("peers.nvlinks", link.nvlinks, 0, GPUS_PER_NODE_MAX)
        yield from _number("peers.bandwidth_mb_s", link.bandwidth_mb_s, 0, LINK_MB_S_MAX)


def _words(*fields: tuple[str, str | None]) -> _Check:
    for field, word in fields:
        if word is not None and not (0 < len(word) <= WORD_LENGTH_MAX and word.isprintable()):
            yield Violation(field, f"give 1 to {WORD_LENGTH_MAX} printable characters")


def _cpus(field: str, cpu_ids: Sequence[int]) -> _Check:
    if len(set(cpu_ids)) < len(cpu_ids):
        yield Violation(field, "one CPU is named twice")
    if cpu_ids:
        yield from _number(field, min(cpu_ids), 0, CPU_ID_MAX)
        yield from _number(field, max(cpu_ids), 0, CPU_ID_MAX)


def _number(field: str, number: int, least: int, most: int) -> _Check:
    if not least <= number <= most:
        yield Violation(field, f"{number} is outside {least} to {most}")
