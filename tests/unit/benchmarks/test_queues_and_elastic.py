from __future__ import annotations

import pytest

from benchmarks.topology.elastic import Fullness, PodSet, fullness, next_tasks
from benchmarks.topology.queues import Queue, QueueTree
from gpusched.domain.errors import ConfigInvalid


def tree(**queues):
    return QueueTree({name: Queue(name=name, **entry) for name, entry in queues.items()})


def test_what_cannot_be_preempted_stays_within_the_deserved_share():
    queues = tree(q={"deserved_milli": 1000})
    queues.charge("q", 600, preemptible=False)
    assert not queues.admits("q", 500, preemptible=False)
    assert queues.admits("q", 400, preemptible=False)
    assert queues.admits("q", 5000, preemptible=True)


def test_nothing_passes_a_limit_of_any_queue_above():
    queues = tree(
        top={"deserved_milli": None, "limit_milli": 1000},
        a={"deserved_milli": None, "parent": "top"},
        b={"deserved_milli": None, "parent": "top"},
    )
    queues.charge("a", 700, preemptible=True)
    assert queues.admits("b", 300, preemptible=True)
    assert not queues.admits("b", 301, preemptible=True)
    queues.charge("a", -700, preemptible=True)
    assert queues.admits("b", 1000, preemptible=True)


@pytest.mark.parametrize(
    ("parents", "words"),
    [({"a": "b"}, "no queue b above it"), ({"a": "b", "b": "a"}, "above itself")],
)
def test_queues_that_are_no_tree_are_refused(parents, words):
    with pytest.raises(ConfigInvalid, match=words):
        tree(**{name: {"deserved_milli": None, "parent": parent} for name, parent in parents.items()})


def test_every_pod_set_first_gets_what_it_lacks_to_its_least_number():
    sets = [PodSet("a", 2, 1, ("a1", "a2", "a3")), PodSet("b", 1, 0, ("b0", "b1"))]
    assert next_tasks(sets) == {"a": ("a1",), "b": ("b0",)}
    assert fullness(sets) is Fullness.BELOW_LEAST


def test_then_one_more_task_of_the_pod_set_that_is_least_above_it():
    sets = [PodSet("a", 1, 2, ("a2",)), PodSet("b", 2, 2, ("b2", "b3"))]
    assert next_tasks(sets) == {"b": ("b2",)}
    assert fullness(sets) is Fullness.ABOVE_LEAST


def test_a_pod_set_that_can_never_reach_its_least_number_starts_nothing():
    assert next_tasks([PodSet("a", 1, 0, ("a0",)), PodSet("b", 3, 0, ("b0",))]) is None


def test_nothing_waits_is_no_turn():
    assert next_tasks([PodSet("a", 1, 1, ())]) == {}
    assert fullness([PodSet("a", 1, 1, ())]) is Fullness.AT_LEAST
