"""Nodes, pods and arrivals of the ATC'23 study: read from files, or made up in the same form.

They become what the scheduler itself places: a ``ClusterSnapshot`` and ``NodeRequest``s. One thing is added:
the study counts CPUs in thousandths, which have no names to be pinned to, so the snapshot's CPU columns hold
thousandths and nobody is given CPU ids. Placement compares CPUs and never asks for their unit.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from benchmarks.nodes import up_node
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.node import WHOLE_MILLI, Device, Node
from gpusched.domain.partition import Partitions
from gpusched.placement.inventory import IntColumn
from gpusched.placement.request import NodeRequest
from gpusched.placement.snapshot import ClusterSnapshot

POD_LIST_PREFIX = "openb_pod_list_"
NODE_LIST = "openb_node_list_gpu_node.csv.gz"
SYNTHETIC_ARRIVAL = 1.3


class TraceInvalid(Exception):
    """A file is not what it should be; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    name: str
    cpu_milli: int
    memory_mib: int
    gpus: int
    model: str


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Attributes:
    seed: Name of the order.
    pod: (E,) index into the pods, in order of arrival.
    node_order: (N,) index of the node with rank k.
    """

    seed: str
    pod: IntColumn
    node_order: IntColumn


@dataclass(frozen=True, slots=True)
class Trace:
    """Nodes by name, pods by name, and the orders to replay."""

    name: str
    nodes: tuple[NodeRow, ...]
    pods: tuple[NodeRequest, ...]
    arrivals: tuple[Arrivals, ...]

    def empty_cluster(self, arrivals: Arrivals) -> ClusterSnapshot:
        """The nodes, named by rank, so that the lowest wins a tie; nothing taken; CPUs in thousandths."""
        ranked = [self.nodes[index] for index in arrivals.node_order.tolist()]
        nodes = [_node(f"{rank:06}", row) for rank, row in enumerate(ranked)]
        snapshot = ClusterSnapshot.of(nodes, Partitions(), 1)
        cpus = np.array([row.cpu_milli for row in ranked], dtype=np.int64)
        snapshot.inventory = replace(
            snapshot.inventory, cpus_total=cpus, cpus_most=int(cpus.max(initial=0)), masks={}
        )
        snapshot.cpus_free = cpus.copy()
        return snapshot


def _node(name: str, row: NodeRow) -> Node:
    devices = tuple(
        Device(uuid=DeviceUuid(f"{name}/{column}"), model=row.model, memory_bytes=None, shareable=True)
        for column in range(row.gpus)
    )
    return up_node(NodeName(name), devices, cpus=0, memory_bytes=row.memory_mib << 20)


def pod(
    *, cpu_milli: int, memory_mib: int = 0, gpus: int = 0, gpu_milli: int = 0, models: Sequence[str] = ()
) -> NodeRequest:
    """Write a pod as the scheduler's request; without GPUs its share of one means nothing."""
    return NodeRequest(
        gpus=gpus,
        gpu_milli=gpu_milli if gpus else WHOLE_MILLI,
        cpus=cpu_milli,
        memory_bytes=memory_mib << 20,
        gpu_model="|".join(models) or None,
        gpu_memory_bytes=None,
        mig_profile=None,
        counters=(),
        partition=None,
        nodelist=(),
        exclude=(),
    )


def read_trace(nodes: Path, pods: Path, arrivals: list[Path]) -> Trace:
    """Read one trace with its orders.

    Raises:
        TraceInvalid: A file cannot be read as what it should be.
    """
    node_rows = tuple(sorted(_nodes(nodes), key=lambda node: node.name.encode()))
    if len({node.name for node in node_rows}) < len(node_rows):
        raise TraceInvalid(f"{nodes}: two nodes have one name")
    by_name = sorted(_pods(pods), key=lambda pod: pod[0].encode())
    shapes = tuple(shape for _, shape in by_name)
    if not shapes or not sum(row.gpus for row in node_rows):
        raise TraceInvalid(
            f"{pods if not shapes else nodes}: {'no pods' if not shapes else 'no node with a GPU'}"
        )
    name = pods.name.split(".")[0].removeprefix(POD_LIST_PREFIX)
    orders = tuple(_arrivals(path, len(shapes), len(node_rows)) for path in arrivals)
    return Trace(name, node_rows, shapes, orders)


def read_trace_of_folder(folder: Path, name: str) -> Trace:
    """Read a trace by its name from a folder of traces (``fgd/`` in it)."""
    at = folder / "fgd"
    orders = sorted((at / "arrivals").glob(f"{name}_*.npz"))
    if not orders:
        raise TraceInvalid(f"{at / 'arrivals'}: no {name}_*.npz there")
    return read_trace(at / NODE_LIST, at / f"{POD_LIST_PREFIX}{name}.csv.gz", orders)


def synthetic_trace(seeds: int, *, nodes: int = 300) -> Trace:
    """Make up a trace of the same form: three kinds of nodes, parts of GPUs, whole ones, none."""
    dice = np.random.default_rng(0)
    kinds = [(96_000, 393_216, 8, "A"), (104_000, 524_288, 2, "B"), (16_000, 122_880, 2, "C")]
    drawn = dice.choice(len(kinds), nodes, p=[0.5, 0.35, 0.15])
    rows = tuple(NodeRow(f"node-{i:04}", *kinds[kind]) for i, kind in enumerate(drawn.tolist()))
    pods = []
    for _ in range(2000):
        part = int(
            dice.choice(
                [0, 160, 320, 470, 650, 810, WHOLE_MILLI], p=[0.13, 0.02, 0.05, 0.12, 0.05, 0.13, 0.5]
            )
        )
        gpus = (
            (int(dice.choice([1, 2, 4, 8], p=[0.97, 0.01, 0.01, 0.01])) if part == WHOLE_MILLI else 1)
            if part
            else 0
        )
        cpu = int(dice.choice([3, 4, 8, 11, 12, 16, 24])) * 1000 * max(1, gpus)
        pods.append(pod(cpu_milli=cpu, gpu_milli=part, gpus=gpus, memory_mib=4 * cpu // 1000 * 1024))
    capacity = sum(row.gpus for row in rows) * WHOLE_MILLI
    orders = []
    for seed in range(seeds):
        dice = np.random.default_rng(seed)
        order = dice.integers(0, len(pods), 20 * nodes)
        asked = np.cumsum([pods[index].total_milli for index in order.tolist()])
        orders.append(
            Arrivals(str(seed), order[asked <= SYNTHETIC_ARRIVAL * capacity], dice.permutation(nodes))
        )
    return Trace("synthetic", rows, tuple(pods), tuple(orders))


def _arrivals(path: Path, pods: int, nodes: int) -> Arrivals:
    try:
        with np.load(path) as arrays:
            pod, order = arrays["pod"].astype(np.int64), arrays["node_order"].astype(np.int64)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise TraceInvalid(f"{path}: not an archive of `pod` and `node_order`: {error}") from error
    if pod.ndim != 1 or not len(pod):
        raise TraceInvalid(f"{path}: pod: not a list of arrivals")
    if pod.max() >= pods or pod.min() < 0:
        wrong = pod.max() if pod.max() >= pods else pod.min()
        raise TraceInvalid(f"{path}: pod: index {wrong} of a list of {pods} pods")
    if not np.array_equal(np.sort(order), np.arange(nodes)):
        raise TraceInvalid(f"{path}: node_order: not a permutation of 0..{nodes - 1}")
    return Arrivals(path.stem.rpartition("_")[2], pod, order)


def _nodes(path: Path) -> Iterator[NodeRow]:
    for line, row in _rows(path, ("sn", "cpu_milli", "memory_mib", "gpu", "model")):
        cpu, memory, gpus = (_number(path, line, row, field) for field in ("cpu_milli", "memory_mib", "gpu"))
        yield NodeRow(row["sn"], cpu, memory, gpus, row["model"])


def _pods(path: Path) -> Iterator[tuple[str, NodeRequest]]:
    for line, row in _rows(path, ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")):
        gpus = _number(path, line, row, "num_gpu")
        milli = _number(path, line, row, "gpu_milli") if gpus else 0
        if gpus and not (1 <= milli <= WHOLE_MILLI and (gpus == 1 or milli == WHOLE_MILLI)):
            raise TraceInvalid(
                f"{path}:{line}: gpu_milli: {gpus} GPUs at {milli}/{WHOLE_MILLI} each cannot be had: "
                f"1 to {WHOLE_MILLI} for one GPU, {WHOLE_MILLI} for several"
            )
        yield (
            row["name"],
            pod(
                cpu_milli=_number(path, line, row, "cpu_milli"),
                memory_mib=_number(path, line, row, "memory_mib"),
                gpus=gpus,
                gpu_milli=milli,
                models=tuple(filter(None, (row.get("gpu_spec") or "").split("|"))),
            ),
        )


def _rows(path: Path, fields: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, str]]]:
    try:
        yield from _read_rows(path, fields)
    except (UnicodeDecodeError, EOFError, zlib.error, csv.Error) as error:
        raise TraceInvalid(f"{path}: not a CSV file in UTF-8: {error}") from error


def _read_rows(path: Path, fields: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, str]]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if missing := set(fields) - set(reader.fieldnames or ()):
            raise TraceInvalid(f"{path}:1: no column {', '.join(sorted(missing))}")
        for row in reader:
            if any(row[field] is None for field in fields):
                raise TraceInvalid(f"{path}:{reader.line_num}: fewer columns than the header")
            yield reader.line_num, row


def _number(path: Path, line: int, row: Mapping[str, str], field: str) -> int:
    text = row[field]
    if not text.isascii() or not text.isdigit():
        raise TraceInvalid(f"{path}:{line}: {field}: {text!r} is not a whole number of at least 0")
    return int(text)
