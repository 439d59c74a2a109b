"""A memo saves work and never changes a plan: incremental cycles against cycles from nothing.

Random histories of a small cluster: jobs arrive, start, end early, nodes go down and come back.
Each plan is compared with the one made without memory and with a plain loop over the queue.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from fakes.clusters import (
    H100,
    LICENSES,
    TWO_PARTITIONS,
    give_all_back,
    make_node,
    node_lists,
    specs,
    take_all,
)
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gpusched.domain.job_state import PendingReason
from gpusched.placement.counts import RequestColumns, Room
from gpusched.placement.fit import fit_empty, fit_now
from gpusched.placement.gang import could_fit, fits, place
from gpusched.placement.holdings import give_back, hold
from gpusched.placement.request import node_request
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.backfill import make_plan
from gpusched.policy.forecast import forecast_start
from gpusched.policy.memo import CycleMemo
from gpusched.policy.plan import Plan, QueueEntry, RunningEntry, Start

SECOND_US = 1_000_000


def plain_plan(snapshot, queue, running, now_us):
    """EASY backfill as the paper has it, one job after the other, every test in full."""
    now, running, head, later = snapshot.copy(), list(running), None, None
    starts, reasons, forecasts = [], {}, {}
    refused: list[QueueEntry] = []  # in the way of the head: equal and larger gangs are not tried again

    def start(entry, placement, ends_by_us):
        take_all(now, placement)
        starts.append(Start(entry.job_id, placement))
        running.append(RunningEntry(entry.job_id, placement.nodes, ends_by_us, placement.licenses))

    def off(spec, avoid):
        return place(now, spec, avoid=avoid) if fits(now, spec, avoid=avoid) else None

    def beside(spec):
        if later is None:
            is_rival = dict(spec.licenses).keys() & dict(head.licenses).keys()
            return None if is_rival else off(spec, fit_empty(now.inventory, node_request(head)))
        placement = place(now, spec)
        trial = later.snapshot.copy()
        trial.take_licenses(spec.licenses)
        if not trial.has_licenses(head.licenses):
            return None
        for part in placement.nodes:
            trial.take(part)
        if not fits(trial, head):
            rows = [now.index[part.node] for part in place(later.snapshot, head).nodes]
            placement = off(spec, np.isin(np.arange(len(now.names)), rows))
        if placement is not None:
            take_all(later.snapshot, placement)
        return placement

    for entry in queue:
        spec = entry.spec
        ends_by_us = None if spec.time_limit_s is None else now_us + spec.time_limit_s * SECOND_US
        if not could_fit(now, spec):
            reasons[entry.job_id] = PendingReason.NODES_UNAVAILABLE
        elif head is None and fits(now, spec):
            start(entry, place(now, spec), ends_by_us)
        elif head is None:
            head, later = spec, forecast_start(now, spec, running, now_us)
            reasons[entry.job_id] = PendingReason.RESOURCES
            if later is not None:
                forecasts[entry.job_id] = later.start_us
        else:
            reasons[entry.job_id] = PendingReason.PRIORITY
            is_harmless = ends_by_us is not None and (later is None or ends_by_us <= later.start_us)
            if not fits(now, spec):
                continue
            if is_harmless:
                placement = place(now, spec)
            elif not spec.licenses and any(
                node_request(other.spec) == node_request(spec) and other.spec.nodes <= spec.nodes
                for other in refused
            ):
                continue
            else:
                placement = beside(spec)
            if placement is None:
                refused += [] if spec.licenses else [entry]
                continue
            del reasons[entry.job_id]
            start(entry, placement, ends_by_us)
    return Plan(snapshot.generation, tuple(starts), reasons, forecasts)


class History:
    """A cluster over time, planned for with one memo."""

    def __init__(self, nodes):
        self.nodes, self.memo, self.now_us, self.next_id = nodes, CycleMemo(), 0, 1
        self.queue, self.running = [], []
        self.rebuild()

    def rebuild(self):
        self.snapshot = ClusterSnapshot.of(self.nodes, TWO_PARTITIONS, 1, licenses=LICENSES)
        for entry in self.running:
            take_all(self.snapshot, entry)  # has nodes, as a placement has

    def submit(self, spec):
        self.queue.append(QueueEntry(self.next_id, spec))
        self.next_id += 1

    def end(self, number):
        if self.running:
            give_all_back(self.snapshot, self.running.pop(number % len(self.running)))

    def flip(self, number):
        if self.nodes:
            number %= len(self.nodes)
            self.nodes[number] = replace(self.nodes[number], reachable=not self.nodes[number].reachable)
            self.rebuild()

    def join(self, number):
        """A node whose name moves the rows of all others."""
        name, gpus = f"a{len(self.nodes)}", number % 5
        self.nodes = [make_node(name, *[H100] * gpus, shareable=number % 3), *self.nodes]
        self.rebuild()

    def cancel(self, number):
        if self.queue:
            self.queue.pop(number % len(self.queue))

    def plans(self):
        """The plan of this moment with the memo, without one, and by a plain loop over the queue."""
        args = self.snapshot, self.queue, self.running, self.now_us
        return (
            make_plan(*args, depth_max=1_000, memo=self.memo),
            make_plan(*args, depth_max=1_000),
            plain_plan(*args),
        )

    def carry_out(self, plan):
        limits = {entry.job_id: entry.spec.time_limit_s for entry in self.queue}
        for start in plan.starts:
            take_all(self.snapshot, start.placement)
            limit_s = limits[start.job_id]
            ends_by_us = None if limit_s is None else self.now_us + limit_s * SECOND_US
            held = start.placement
            self.running.append(RunningEntry(start.job_id, held.nodes, ends_by_us, held.licenses))
        started = {start.job_id for start in plan.starts}
        self.queue = [entry for entry in self.queue if entry.job_id not in started]
        self.now_us += SECOND_US


changes = st.one_of(
    st.tuples(st.just(History.submit), specs(plain=True)),
    st.tuples(st.just(History.submit), specs()),
    st.tuples(
        st.sampled_from([History.end, History.end, History.flip, History.join, History.cancel]),
        st.integers(0, 9),
    ),
)


@given(
    node_lists(always_up=True), st.lists(st.lists(changes, min_size=1, max_size=8), min_size=1, max_size=8)
)
@settings(max_examples=200, deadline=None)
def test_a_plan_with_a_memo_equals_one_without_and_that_of_a_plain_loop_over_the_queue(nodes, rounds):
    history = History(nodes)
    backfilled = 0
    for round_ in rounds:
        for change, argument in round_:
            change(history, argument)
        plan, without_memo, plain = history.plans()
        assert plan == without_memo == plain
        history.carry_out(plan)
        waiting = [job_id for job_id, reason in plan.reasons.items() if reason is PendingReason.RESOURCES]
        backfilled += sum(start.job_id > waiting[0] for start in plan.starts) if waiting else 0
    event(f"backfilled {min(backfilled, 3)}")


@given(node_lists(always_up=True), st.lists(specs(plain=True), min_size=20, max_size=60))
@settings(max_examples=100, deadline=None)
def test_a_long_queue_is_planned_as_a_plain_loop_would(nodes, wanted):
    history = History(nodes)
    for spec in wanted:
        history.submit(spec)
    for number in range(4):
        plan, without_memo, plain = history.plans()
        assert plan == without_memo == plain
        history.carry_out(plan)
        history.end(number)


@given(node_lists(), st.lists(specs(), max_size=6), st.lists(specs(), max_size=12), st.data())
@settings(max_examples=300, deadline=None)
def test_requests_counted_at_once_fit_as_many_nodes_as_each_alone(nodes, held, wanted, data):
    snapshot = ClusterSnapshot.of(nodes, TWO_PARTITIONS, 1, licenses=LICENSES)
    for spec in held:
        if fits(snapshot, spec):
            take_all(snapshot, place(snapshot, spec))
    requests = [node_request(spec) for spec in wanted]
    columns = RequestColumns()
    columns.add(requests[:4])
    columns.add(requests[4:])
    among = np.array([data.draw(st.booleans()) for _ in nodes], dtype=bool)
    now, rows = Room.now(snapshot), np.flatnonzero(among)
    masks = [fit_now(snapshot, request) for request in requests]
    assert columns.count(now).tolist() == [mask.sum() for mask in masks]
    assert columns.count(now, nodes=rows).tolist() == [mask[among].sum() for mask in masks]
    assert columns.count(now, rows=slice(2, None)).tolist() == [mask.sum() for mask in masks[2:]]
    empty = [fit_empty(snapshot.inventory, request).sum() for request in requests]
    assert columns.count(Room.empty(snapshot.inventory)).tolist() == empty


@given(node_lists(always_up=True), st.lists(specs(), max_size=10), st.data())
@settings(max_examples=200, deadline=None)
def test_holdings_given_back_in_bulk_leave_what_parts_given_back_one_by_one_leave(nodes, wanted, data):
    one_by_one = ClusterSnapshot.of(nodes, TWO_PARTITIONS, 1, licenses=LICENSES)
    placements = []
    for spec in wanted:
        if fits(one_by_one, spec):
            placements.append(place(one_by_one, spec))
            take_all(one_by_one, placements[-1])
    in_bulk = one_by_one.copy()
    ended = [placement for placement in placements if data.draw(st.booleans())]
    for placement in ended:
        give_all_back(one_by_one, placement)
    give_back(in_bulk, [hold(in_bulk.inventory, each.nodes, each.licenses) for each in ended])
    for name in set(ClusterSnapshot.__slots__) - {"inventory", "scores", "stamps"}:
        assert np.array_equal(getattr(in_bulk, name), getattr(one_by_one, name)), name
