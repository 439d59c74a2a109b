"""Whom a client or an agent of several heads asks next."""

from __future__ import annotations

import pytest

from gpusched.domain.errors import HeadUnavailable, NotFound, NotLeading, StoreUnavailable
from gpusched.wire.address import parse_addresses
from gpusched.wire.heads import Heads

A, B, C, D = parse_addresses("a:1,b:1,c:1,d:1")
AWAY = HeadUnavailable("no answer")


def asked(heads: Heads, *errors: Exception) -> list[str]:
    """Whom it turns to after each of the errors."""
    turned_to = []
    for error in errors:
        heads.move_on(heads.current, error)
        turned_to.append(heads.current.text)
    return turned_to


def test_heads_are_tried_in_order_and_again_from_the_start():
    assert asked(Heads([A, B, C]), AWAY, StoreUnavailable("down"), AWAY) == ["b:1", "c:1", "a:1"]


def test_the_head_that_is_named_as_leader_is_asked_even_if_nobody_listed_it():
    assert asked(Heads([A, B]), NotLeading("stands by", leader="d:1"), AWAY) == ["d:1", "b:1"]


def test_a_leader_that_is_dead_does_not_keep_us_from_the_one_that_takes_over():
    named = NotLeading("stands by", leader="a:1")
    assert asked(Heads([A, B]), AWAY, named, AWAY, named, AWAY) == ["b:1", "a:1", "b:1", "a:1", "b:1"]


@pytest.mark.parametrize("leader", [None, "what is this", "a:1"])
def test_a_head_that_names_nobody_else_is_left_for_the_next(leader):
    assert asked(Heads([A, B]), NotLeading("stands by", leader=leader)) == ["b:1"]


def test_an_answer_is_an_answer():
    assert asked(Heads([A, B]), NotFound("no job 7")) == ["a:1"]


def test_only_the_first_of_many_calls_that_failed_moves_on():
    heads = Heads([A, B, C])
    heads.move_on(A, AWAY)
    heads.move_on(A, AWAY)
    assert heads.current == B


def test_where_there_is_one_head_it_is_asked_again():
    assert asked(Heads([A]), AWAY, NotLeading("stands by")) == ["a:1", "a:1"]
