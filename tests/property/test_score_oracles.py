"""The value of nodes to a mix of requests: arrays against plain loops, kept scores against new ones."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
from fakes.clusters import A10, A100, H100, make_node, snapshot_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusched.domain.node import WHOLE_MILLI
from gpusched.placement.columns import KeptScores
from gpusched.placement.fit import fit_now
from gpusched.placement.mix import RequestMix
from gpusched.placement.packing import FINALITY, PATIENCE, QUANTA, FutureValue, Packing, leftover_table
from gpusched.placement.request import NodeRequest, is_model_match

MODELS = (H100, A100, A10)
ROUNDED = 4_000 / QUANTA  # each weight and pressure is rounded once, then counts for thousands of milli


@st.composite
def requests(draw):
    gpus = draw(st.sampled_from([0, 1, 1, 1, 2, 4]))
    part = st.sampled_from([50, 190, 320, 470, 500, 810, WHOLE_MILLI])
    return NodeRequest(
        gpus=gpus,
        gpu_milli=draw(part) if gpus == 1 else WHOLE_MILLI,
        cpus=draw(st.integers(0, 12)),
        memory_bytes=0,
        gpu_model=draw(st.sampled_from([None, None, "A100", "NVIDIA", "B200"])) if gpus else None,
        gpu_memory_bytes=None,
        partition=None,
        nodelist=(),
        exclude=(),
    )


@st.composite
def snapshots(draw):
    """Nodes of one model each, with parts of their GPUs and CPUs taken."""
    nodes = [
        make_node(f"n{row}", *[draw(st.sampled_from(MODELS))] * draw(st.integers(0, 4)), cpus=40, shareable=4)
        for row in range(draw(st.integers(1, 6)))
    ]
    snapshot = snapshot_of(*nodes)
    for row in range(len(nodes)):
        change(draw, snapshot, row)
    return snapshot


def change(draw, snapshot, row):
    held = st.sampled_from([0, 0, 190, 500, 530, 810, WHOLE_MILLI])
    for column in range(int(snapshot.inventory.gpus_total[row])):
        snapshot.milli_free[row, column] = WHOLE_MILLI - draw(held)
    snapshot.gpus_free[row] = np.count_nonzero(snapshot.milli_free[row] == WHOLE_MILLI)
    snapshot.gpus_free_by_class[:, row] = 0
    for column in np.flatnonzero(snapshot.milli_free[row] == WHOLE_MILLI):
        snapshot.gpus_free_by_class[snapshot.inventory.device_class[row, column], row] += 1
    snapshot.cpus_free[row] = draw(st.integers(0, 40))
    snapshot.stamp(row)


MIXES = st.lists(requests(), min_size=1, max_size=12).map(lambda asked: RequestMix.of(Counter(asked)))


def state_of(snapshot, row):
    count = int(snapshot.inventory.gpus_total[row])
    shown = snapshot.inventory.classes[snapshot.inventory.device_class[row, 0]].model if count else None
    return shown, int(snapshot.cpus_free[row]), snapshot.milli_free[row, :count].tolist()


def will_do(shape, model):
    return model is not None and (shape.gpu_model is None or is_model_match(shape.gpu_model, model))


def plain_value(mix, snapshot, model, cpus, free):
    wanted = [(s, share) for s, share in zip(mix.shapes, mix.shares, strict=True) if s.gpus]
    count, demand = sum(f for _, f in wanted), sum(f * s.gpus * s.gpu_milli for s, f in wanted)
    supply = Counter()
    for row in range(len(snapshot.names)):
        shown, _, gpus = state_of(snapshot, row)
        supply[shown] += len(gpus)
    value, chances = 0.0, Counter()
    for shape, share in wanted:
        if not will_do(shape, model):
            continue
        by_gpu = sum(milli // shape.gpu_milli for milli in free) // shape.gpus
        copies = min(by_gpu, cpus // max(1, shape.cpus))
        value += share / count * copies * shape.gpus * shape.gpu_milli
        able = sum(supply[shown] for shown in supply if will_do(shape, shown))
        part = share * shape.gpus * shape.gpu_milli / demand
        value += part * supply.total() / able * sum(free) if able else 0
        if cpus >= shape.cpus:
            chances[shape.gpu_milli] += part

    @cache
    def leftover(milli):
        fitting = [(m, p) for m, p in chances.items() if m <= milli]
        stays = PATIENCE * milli + sum(p * leftover(milli - m) for m, p in fitting)
        return stays / (PATIENCE + sum(p for _, p in fitting))

    return value - FINALITY * sum(leftover(milli) for milli in free)


def fitting(snapshot, request):
    """Rows where it fits; a node's GPUs are of one model here."""
    whole = fit_now(snapshot, NodeRequest(**{**fields(request), "gpus": 0, "gpu_model": None}))
    rows = []
    for row in np.flatnonzero(whole).tolist():
        model, _, free = state_of(snapshot, row)
        room = sum(milli >= request.gpu_milli for milli in free)
        if room >= request.gpus and (request.gpus == 0 or will_do(request, model)):
            rows.append(row)
    return np.array(rows, dtype=np.int64)


def fields(request):
    return {name: getattr(request, name) for name in NodeRequest.__slots__}


@given(snapshots(), MIXES, requests())
@settings(deadline=None, max_examples=150)
def test_score_is_the_growth_of_the_value_that_plain_loops_compute(snapshot, mix, request):
    value = FutureValue(snapshot.inventory, mix)
    rows = fitting(snapshot, request)
    for row, score in zip(rows.tolist(), value.growth(snapshot, request, rows).tolist(), strict=True):
        model, cpus, free = state_of(snapshot, row)
        before = plain_value(mix, snapshot, model, cpus, free)
        after = list(free)
        for column in [value.device(snapshot, request, row)] if request.is_part else whole(free, request):
            after[column] -= request.gpu_milli
        grown = plain_value(mix, snapshot, model, cpus - request.cpus, after) - before
        assert abs(score / QUANTA - grown) < ROUNDED


def whole(free, request):
    return [column for column, milli in enumerate(free) if milli == WHOLE_MILLI][: request.gpus]


@given(snapshots(), MIXES, st.lists(requests(), min_size=1, max_size=3), st.data())
@settings(deadline=None, max_examples=100)
def test_kept_scores_equal_new_ones_whatever_changed_on_whichever_copy(snapshot, mix, asked, data):
    kept = KeptScores(len(snapshot.names), Packing(snapshot.inventory, mix))
    copies = [snapshot, snapshot.copy()]
    for _ in range(8):
        now = data.draw(st.sampled_from(copies))
        change(data.draw, now, data.draw(st.integers(0, len(now.names) - 1)))
        request = data.draw(st.sampled_from(asked))
        rows = fitting(now, request)
        fresh = KeptScores(len(now.names), Packing(now.inventory, mix)).of(now, request, rows)
        assert kept.of(now, request, rows).tolist() == fresh.tolist()


@given(snapshots(), MIXES)
@settings(deadline=None, max_examples=60)
def test_what_a_gpu_strands_is_never_more_than_is_free(snapshot, mix):
    wanted = [(s, share) for s, share in zip(mix.shapes, mix.shares, strict=True) if s.gpus]
    table = leftover_table(snapshot.inventory, wanted, np.array([4]))
    assert (table >= 0).all()
    assert (table <= np.arange(WHOLE_MILLI + 1) + 1e-9).all()
