"""Where jobs go once the usual requests are known: the scheduler's own placement, with a mix."""

from __future__ import annotations

from collections import Counter

import pytest
from fakes.clusters import make_node, snapshot_of, take_all

from gpusched.domain.errors import InfeasibleRequest, InsufficientResources
from gpusched.domain.job_spec import JobSpec
from gpusched.placement.gang import place
from gpusched.placement.mix import NOTHING_KNOWN, RequestMix, shape_of
from gpusched.placement.request import node_request


def cluster(*nodes):
    """Each node: model, CPUs, GPUs, all of them shareable."""
    return snapshot_of(
        *[
            make_node(f"n{i}", *[m] * gpus, cpus=cpus, shareable=gpus)
            for i, (m, cpus, gpus) in enumerate(nodes)
        ]
    )


def part(milli, cpus=1, **more):
    return whole(1, cpus, gpu_milli=milli, **more)


def whole(gpus, cpus, **more):
    return JobSpec(name="job", command=("true",), gpus_per_node=gpus, cpus_per_task=cpus, **more)


def mix_of(*specs):
    return RequestMix.of(Counter(shape_of(node_request(spec)) for spec in specs))


def usually(snapshot, *specs):
    """Returns what places and holds a job where ``specs`` are usual: its row and device columns."""
    snapshot.expect(mix_of(*specs))

    def take(spec):
        placement = place(snapshot, spec)
        take_all(snapshot, placement)
        found = placement.nodes[0]
        row = snapshot.index[found.node]
        return row, tuple(snapshot.inventory.uuids[row].index(uuid) for uuid in found.devices)

    return take


def test_a_part_completes_a_gpu_rather_than_opening_another():
    take = usually(cluster(("A", 64, 4)), part(700), part(300), whole(1, 8))
    assert take(part(700)) == (0, (0,))
    assert take(part(300)) == (0, (0,))


def test_a_part_leaves_the_gap_that_usual_requests_fill():
    take = usually(cluster(("A", 64, 2)), part(600), part(400), part(500))
    take(part(600))
    take(part(500))
    assert take(part(400)) == (0, (0,))
    assert take(part(500)) == (0, (1,))


def test_a_job_for_many_cpus_goes_where_cpus_are_plenty():
    take = usually(cluster(("A", 16, 2), ("A", 64, 2)), whole(1, 8), whole(1, 32))
    assert take(whole(1, 8)) == (0, (0,))
    assert take(whole(1, 16))[0] == 1


def test_a_job_without_gpu_leaves_the_cpus_that_gpus_need():
    take = usually(cluster(("A", 16, 4), ("A", 64, 2)), whole(1, 4), whole(0, 8))
    assert take(whole(0, 8))[0] == 1


def test_a_job_for_any_model_leaves_the_scarce_one_free():
    take = usually(
        cluster(("scarce", 64, 1), ("plenty", 64, 8)), whole(1, 4), whole(1, 4, gpu_model="scarce")
    )
    assert take(whole(1, 4))[0] == 1
    assert take(whole(1, 4, gpu_model="scarce")) == (0, (0,))


def test_a_job_that_names_alternatives_leaves_the_model_that_others_must_have():
    take = usually(
        cluster(("A100", 64, 2), ("H100", 64, 2), ("L4", 64, 8)),
        whole(1, 4),
        whole(1, 4, gpu_model="A100|H100"),
        whole(1, 4, gpu_model="A100"),
    )
    assert take(whole(1, 4, gpu_model="A100|H100"))[0] == 1
    assert take(whole(1, 4))[0] == 2


def test_whole_nodes_stay_whole_for_wide_jobs():
    take = usually(cluster(("A", 64, 4), ("A", 64, 4)), whole(1, 4), whole(4, 16))
    first, _ = take(whole(1, 4))
    assert take(whole(1, 4))[0] == first
    assert take(whole(4, 16))[0] == 1 - first


def test_of_nodes_that_are_worth_the_same_to_the_mix_the_fullest_is_taken():
    take = usually(cluster(("A", 64, 4), ("A", 64, 4)), whole(1, 4))
    assert [take(whole(gpus, 4))[0] for gpus in (1, 4, 1, 1)] == [0, 1, 0, 0]


def test_equal_nodes_are_taken_in_the_order_of_their_names():
    take = usually(cluster(("A", 64, 1), ("A", 64, 1), ("A", 64, 1)), whole(1, 4))
    assert [take(whole(1, 4))[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InsufficientResources):
        take(whole(1, 4))


def test_a_mix_without_gpus_and_a_model_nobody_has_are_no_trouble():
    take = usually(cluster(("A", 8, 1)), whole(0, 1), part(500, gpu_model="B"))
    with pytest.raises(InfeasibleRequest):
        take(part(500, gpu_model="B"))
    assert take(part(500)) == (0, (0,))


def test_copies_score_by_the_mix_they_were_made_with():
    snapshot = cluster(("scarce", 64, 1), ("plenty", 64, 8))
    before = snapshot.copy()
    snapshot.expect(mix_of(whole(1, 4), whole(1, 4, gpu_model="scarce")))
    assert before.mix == NOTHING_KNOWN
    assert place(before, whole(1, 4)).nodes[0].node == "n0"
    assert place(snapshot.copy(), whole(1, 4)).nodes[0].node == "n1"


def test_the_mix_keeps_the_most_frequent_shapes_that_cover_what_is_asked():
    often, seldom, least = (shape_of(node_request(part(milli))) for milli in (500, 100, 200))
    mix = RequestMix.of({least: 4, seldom: 6, often: 90})
    assert mix.shapes == (often, seldom)
    assert mix.shares == pytest.approx((90 / 96, 6 / 96))
