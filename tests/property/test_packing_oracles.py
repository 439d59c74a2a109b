"""The arrays of packing against plain loops, on random clusters."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusched.placement.fragmentation import FragmentTables, RequestMix
from gpusched.placement.shared_columns import Packer
from gpusched.placement.shared_nodes import WHOLE, Shape, SharedNodes
from gpusched.placement.shared_packing import FINALITY, PATIENCE, FutureValue

MODELS = ("A", "B", "C")


@st.composite
def shapes(draw, models=MODELS):
    gpus = draw(st.sampled_from([0, 1, 1, 1, 2, 4]))
    part = draw(st.sampled_from([50, 190, 320, 470, 500, 810, WHOLE])) if gpus == 1 else WHOLE * (gpus > 0)
    return Shape(
        cpu_milli=draw(st.integers(0, 12)) * 1000,
        gpus=gpus,
        gpu_milli=part,
        models=tuple(draw(st.lists(st.sampled_from(models), max_size=2, unique=True))) if gpus else (),
        memory_mib=draw(st.sampled_from([0, 0, 64, 4096])),
    )


@st.composite
def clusters(draw):
    size = draw(st.integers(1, 8))
    column = lambda values: draw(st.lists(values, min_size=size, max_size=size))  # noqa: E731
    return SharedNodes(
        models=column(st.sampled_from(MODELS)),
        cpu_milli=np.array(column(st.integers(0, 40))) * 1000,
        memory_mib=np.array(column(st.sampled_from([128, 8192]))),
        gpus=np.array(column(st.integers(0, 4))),
    )


MIXES = st.lists(shapes(), min_size=1, max_size=12).map(RequestMix.of)
REQUESTS = st.lists(shapes(), max_size=25)


def states(nodes):
    for row in range(len(nodes.cpu)):
        free = nodes.gpu[row, : nodes.gpus[row]].tolist()
        yield nodes.models[nodes.model[row]], int(nodes.cpu[row]), free


def plain_fragment(mix, model, cpu, free):
    fragment = 0.0
    for shape, share in zip(mix.shapes, mix.shares, strict=True):
        room = sum(milli >= shape.gpu_milli for milli in free)
        allowed = not shape.models or model in shape.models
        usable = shape.gpus and allowed and cpu >= shape.cpu_milli and room >= shape.gpus
        fragment += share * sum(milli for milli in free if not usable or milli < shape.gpu_milli)
    return fragment


def plain_value(mix, nodes, model, cpu, free):
    wanted = [(s, share) for s, share in zip(mix.shapes, mix.shares, strict=True) if s.gpus]
    count, demand = sum(f for _, f in wanted), sum(f * s.total_milli for s, f in wanted)
    supply = {m: sum(len(g) for at, _, g in states(nodes) if at == m) for m in nodes.models}
    value = 0.0
    chances = {}
    for shape, share in wanted:
        if shape.models and model not in shape.models:
            continue
        by_gpu = sum(milli // shape.gpu_milli for milli in free) // shape.gpus
        copies = min(by_gpu, cpu // max(1, shape.cpu_milli))
        value += share / count * copies * shape.total_milli
        able = sum(supply[m] for m in supply if not shape.models or m in shape.models)
        if able:
            pressure = share * shape.total_milli / demand * sum(supply.values()) / able
            value += pressure * sum(free)
        if cpu >= shape.cpu_milli:
            chances[shape.gpu_milli] = chances.get(shape.gpu_milli, 0) + share * shape.total_milli / demand

    @cache
    def leftover(milli):
        fitting = [(m, p) for m, p in chances.items() if m <= milli]
        stays = PATIENCE * milli + sum(p * leftover(milli - m) for m, p in fitting)
        return stays / (PATIENCE + sum(p for _, p in fitting))

    return value - FINALITY * sum(leftover(milli) for milli in free)


def values(mix, nodes):
    return [plain_value(mix, nodes, *state) for state in states(nodes)]


@given(clusters(), MIXES, REQUESTS)
@settings(deadline=None, max_examples=60)
def test_fragment_is_what_plain_loops_over_the_mix_say(nodes, mix, requests):
    packer = Packer(nodes, FutureValue(nodes, mix))
    for request in requests:
        packer.place(request)
    found = FragmentTables(mix, nodes.models, nodes.gpu.shape[1]).of_nodes(nodes.model, nodes.cpu, nodes.gpu)
    assert found == pytest.approx([plain_fragment(mix, *state) for state in states(nodes)], abs=1e-6)


@given(clusters(), MIXES, REQUESTS, shapes())
@settings(deadline=None, max_examples=60)
def test_score_is_the_growth_of_the_value_that_plain_loops_compute(nodes, mix, requests, probe):
    scoring = FutureValue(nodes, mix)
    packer = Packer(nodes, scoring)
    for request in requests:
        packer.place(request)
    rows = np.flatnonzero(nodes.fits(probe) & nodes.allowed(probe))
    scores = scoring.score(probe, rows)
    before = values(mix, nodes)
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        kept = nodes.cpu[row], nodes.memory[row], nodes.gpu[row].copy(), nodes.whole[row]
        nodes.take(row, probe, scoring.devices(probe, row))
        assert score == pytest.approx(values(mix, nodes)[row] - before[row], abs=1e-5)
        nodes.cpu[row], nodes.memory[row], nodes.gpu[row], nodes.whole[row] = kept


@given(clusters(), MIXES, REQUESTS)
@settings(deadline=None, max_examples=60)
def test_kept_columns_decide_as_if_every_score_were_computed_anew(nodes, mix, requests):
    scoring = FutureValue(nodes, mix)
    packer = Packer(nodes, scoring)
    for request in requests:
        able = np.flatnonzero(nodes.fits(request) & nodes.allowed(request))
        expected = int(able[scoring.score(request, able).argmax()]) if len(able) else None
        placed = packer.place(request)
        assert (None if placed is None else placed[0]) == expected


@given(clusters(), MIXES, REQUESTS)
@settings(deadline=None, max_examples=60)
def test_a_request_is_refused_only_where_no_node_can_hold_it(nodes, mix, requests):
    packer = Packer(nodes, FutureValue(nodes, mix))
    for request in requests:
        possible = any(
            cpu >= request.cpu_milli
            and nodes.memory[row] >= request.memory_mib
            and sum(milli >= request.gpu_milli for milli in free) >= request.gpus
            and (not request.models or model in request.models)
            for row, (model, cpu, free) in enumerate(states(nodes))
        )
        assert (packer.place(request) is not None) == possible
        assert (nodes.cpu >= 0).all()
        assert (nodes.memory >= 0).all()
        assert (nodes.gpu >= 0).all()
        assert nodes.whole.tolist() == [sum(m == WHOLE for m in free) for _, _, free in states(nodes)]


@given(clusters(), MIXES)
@settings(deadline=None, max_examples=60)
def test_what_a_gpu_strands_is_never_more_than_is_free(nodes, mix):
    table = FutureValue(nodes, mix)._leftover
    assert (table >= 0).all()
    assert (table <= np.arange(WHOLE + 1) + 1e-9).all()
