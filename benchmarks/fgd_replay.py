"""The replay of the ATC'23 study: pods arrive one at a time, none leaves, none waits; what it measures."""

from __future__ import annotations

import csv
import gzip
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpusched.placement.columns import Packer
from gpusched.placement.shared_nodes import IntColumn, Shape, SharedNodes
from gpusched.placement.fragmentation import FragmentTables, RequestMix

TYPICAL_COVER = 0.95


@dataclass(frozen=True, slots=True)
class Arrivals:
    seed: str
    pods: tuple[Shape, ...]
    node_order: IntColumn


@dataclass(frozen=True, slots=True)
class Outcome:
    nodes: tuple[int | None, ...]
    gpus: tuple[tuple[int, ...], ...]
    allocation: dict[int, float]
    fragmentation: dict[int, float]
    decisions_per_s: float


def read_csv(path: Path) -> list[dict[str, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as stream:  # type: ignore[operator]
        return list(csv.DictReader(stream))


def read_shapes(path: Path) -> tuple[Shape, ...]:
    rows = sorted(read_csv(path), key=lambda row: row["name"].encode())
    return tuple(
        Shape(
            cpu_milli=int(row["cpu_milli"]),
            memory_mib=int(row["memory_mib"]),
            gpus=int(row["num_gpu"]),
            gpu_milli=int(row["gpu_milli"] or 0) if int(row["num_gpu"]) else 0,
            models=tuple(filter(None, (row.get("gpu_spec") or "").split("|"))),
        )
        for row in rows
    )


def build_nodes(path: Path, order: IntColumn) -> SharedNodes:
    rows = sorted(read_csv(path), key=lambda row: row["sn"].encode())
    ranked = [rows[i] for i in order.tolist()]
    return SharedNodes(
        models=[row["model"] for row in ranked],
        cpu_milli=np.array([int(row["cpu_milli"]) for row in ranked]),
        memory_mib=np.array([int(row["memory_mib"]) for row in ranked]),
        gpus=np.array([int(row["gpu"]) for row in ranked]),
    )


def replay(nodes: SharedNodes, policy_class, shapes, arrivals) -> Outcome:
    typical = RequestMix.of(shapes, cover=TYPICAL_COVER)
    policy = policy_class(nodes, typical)
    packer = Packer(nodes, policy)
    chosen, gpus, states = [], [], []
    spent = 0.0
    for shape in arrivals.pods:
        start = time.perf_counter()
        placed = packer.place(shape)
        spent += time.perf_counter() - start
        row, devices = placed if placed else (None, ())
        chosen.append(row)
        gpus.append(devices)
        if row is None: states.append(None); continue
        g=nodes.gpu[row].copy(); b=g.copy(); b[list(devices)] += shape.gpu_milli
        states.append((row, nodes.cpu[row]+shape.cpu_milli, b, nodes.cpu[row], g))
    alloc, frag = measure(nodes, typical, arrivals.pods, states)
    back = arrivals.node_order
    return Outcome(
        tuple(None if r is None else int(back[r]) for r in chosen), tuple(gpus), alloc, frag, len(chosen) / spent
    )


def measure(nodes, typical, pods, states):
    tables = FragmentTables(typical, nodes.models, nodes.gpu.shape[1])
    capacity = int(nodes.gpus.sum()) * 1000
    want = np.array([p.total_milli for p in pods])
    placed = np.array([s is not None for s in states])
    arrived, used = np.cumsum(want), np.cumsum(want * placed)
    rows = np.array([s[0] for s in states if s])
    def frag(c, g):
        return tables.of_nodes(nodes.model[rows], np.array([s[c] for s in states if s]), np.stack([s[g] for s in states if s]))
    delta = np.zeros(len(pods))
    delta[placed] = frag(3, 4) - frag(1, 2)
    empty = np.where(np.arange(nodes.gpu.shape[1]) < nodes.gpus[:, None], 1000, 0)
    cpu0 = nodes.cpu.copy()
    for p, s in zip(pods, states):
        if s: cpu0[s[0]] += p.cpu_milli
    fragment = tables.of_nodes(nodes.model, cpu0, empty).sum() + np.cumsum(delta)
    percent = np.rint(arrived / capacity * 100).astype(int)
    alloc = np.round(used / capacity * 100, 2)
    fr = np.round(fragment / (capacity - used) * 100, 2)
    return tuple({k: _at(percent, v, k) for k in (50, 80, 90, 95, 100, 110, 130)} for v in (alloc, fr))


def _at(percent, values, k):
    at = percent == k
    if not at.any():
        at = (percent == k - 1) | (percent == k + 1)
    return round(float(values[at].mean()), 2) if at.any() else None
