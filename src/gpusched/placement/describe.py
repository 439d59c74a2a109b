"""Requests and quantities in words, as the messages of this package say them."""

from __future__ import annotations

from gpusched.domain.node import WHOLE_MILLI
from gpusched.placement.request import DISK, GRES_PREFIX, NodeRequest

_UNITS = ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)


def in_bytes(quantity: int) -> str:
    """Write a number of bytes in the largest unit that is not below one, rounded down: "80 GiB"."""
    for unit, size in _UNITS:
        if quantity >= size:
            return f"{quantity * 100 // size / 100:.2f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{quantity} bytes"


def counted(number: int, noun: str) -> str:
    """Write "1 node", "3 nodes"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def gpus_in_words(request: NodeRequest, number: int, *, adjective: str = "") -> str:
    """Write "8 free H100 of ≥ 80 GiB", "2 free GPUs", "2 A100 slices 1g.10gb" or "500/1000 of a GPU"."""
    words = [str(number) if request.gpu_milli == WHOLE_MILLI else f"{request.gpu_milli}/{WHOLE_MILLI} of a"]
    if adjective:
        words.append(adjective)
    words += [] if request.gpu_model is None else [request.gpu_model]
    if request.mig_profile is not None:
        words.append(f"{'slice' if number == 1 else 'slices'} {request.mig_profile}")
    elif request.gpu_model is None:
        words.append("GPU" if number == 1 else "GPUs")
    if request.gpu_memory_bytes is not None:
        words.append(f"of ≥ {in_bytes(request.gpu_memory_bytes)}")
    return " ".join(words)


def counter_in_words(name: str, amount: int) -> str:
    """Write "100 GiB of disk", "2 fpga"."""
    return f"{in_bytes(amount)} of disk" if name == DISK else f"{amount} {name.removeprefix(GRES_PREFIX)}"


def in_words(request: NodeRequest, *, adjective: str = "") -> str:
    """Write what each node must give: "8 free H100, 16 CPUs and 64 GiB memory"."""
    parts = [gpus_in_words(request, request.gpus, adjective=adjective)] if request.gpus > 0 else []
    if not parts or request.cpus > 1:  # a single CPU beside GPUs goes without saying
        parts.append(counted(request.cpus, f"{adjective} CPU" if adjective and not parts else "CPU"))
    if request.memory_bytes > 0:
        parts.append(f"{in_bytes(request.memory_bytes)} memory")
    parts += [counter_in_words(name, amount) for name, amount in request.counters]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def island_in_words(request: NodeRequest) -> str:
    """Write "segments of 4 GPUs in one nvlink"."""
    if request.island is None:
        return "segments"
    return f"segments of {request.island.gpus} GPUs in one {request.island.level}"


def in_time(seconds: int) -> str:
    """Write a duration as a job file takes it: "2h", "1d12h", "90s" as "1m30s"."""
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (left, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"
