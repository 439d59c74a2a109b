import pytest
from store_histories import node_facts

from gpusched.domain.errors import LogCorrupt
from gpusched.domain.events import NodeJoined, NodeLost, NodeReturned, Recorded
from gpusched.domain.ids import NodeName
from gpusched.store.node_spans import span_changes

N0 = NodeName("n0")
JOINED = NodeJoined(node=N0, facts=node_facts(N0))
LOST = NodeLost(node=N0, detail="silent")
RETURNED = NodeReturned(node=N0)


def changes(*log):
    return span_changes((), [Recorded(seq, at_us, event) for seq, (at_us, event) in enumerate(log, 1)])


def shown(found):
    return [(s.start_us, found.closed.get(s.seq), s.is_up, len(s.devices)) for s in found.opened]


def test_a_lost_node_is_down_until_it_returns():
    found = changes((10, JOINED), (20, LOST), (30, RETURNED))
    assert shown(found) == [(10, 20, True, 4), (20, 30, False, 4), (30, None, True, 4)]


def test_joining_again_with_the_same_devices_changes_nothing():
    assert shown(changes((10, JOINED), (20, JOINED))) == [(10, None, True, 4)]


def test_a_lost_card_begins_a_new_span_and_does_not_bring_a_lost_node_back():
    fewer = NodeJoined(node=N0, facts=node_facts(N0, gpus=3))
    found = changes((10, JOINED), (20, LOST), (30, fewer))
    assert shown(found) == [(10, 20, True, 4), (20, 30, False, 4), (30, None, False, 3)]


def test_no_span_ends_before_it_starts_when_the_clock_is_set_back():
    found = changes((10, JOINED), (5, LOST), (7, RETURNED))
    assert shown(found) == [(10, 10, True, 4), (10, 10, False, 4), (10, None, True, 4)]


@pytest.mark.parametrize("event", [LOST, RETURNED])
def test_a_node_that_never_joined_cannot_be_lost_or_return(event):
    with pytest.raises(LogCorrupt, match="n0 at seq 1, which never joined"):
        changes((10, event))
