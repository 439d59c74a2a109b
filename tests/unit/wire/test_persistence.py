"""How long a call goes on trying, and after what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusched.domain.errors import (
    GpuschedError,
    HeadUnavailable,
    NodeUnavailable,
    NotLeading,
    StoreUnavailable,
    Unauthenticated,
)
from gpusched.wire.address import parse_address
from gpusched.wire.channel import BACKOFF_MAX_S, Persistence, Reach, TooSlow, backoff_s
from gpusched.wire.credentials import GivenToken, TokenSource


class Only:
    """The one head that there is."""

    def __init__(self, tokens: TokenSource) -> None:
        self.current = Reach(address=parse_address("h:1"), tls=None, tokens=tokens, timeout_s=1.0)

    def move_on(self, asked: Reach, error: GpuschedError) -> None:
        pass


class Renewing:
    """Has as many tokens as one asks for."""

    is_at_hand = True

    def __init__(self) -> None:
        self.number = 1

    def token(self) -> str:
        return f"t{self.number}"

    def renew(self, refused: str) -> bool:
        self.number += 1
        return True


@given(total_s=st.floats(0, 1_000))
def test_the_delays_make_up_the_whole_and_grow_to_a_bound(total_s):
    delays = list(backoff_s(total_s))
    assert sum(delays) == pytest.approx(total_s)
    assert all(delay <= BACKOFF_MAX_S for delay in delays)
    assert sorted(delays[:-1]) == delays[:-1]


@pytest.mark.parametrize(
    "error", [HeadUnavailable("away"), StoreUnavailable("locked"), NotLeading("stands by")]
)
def test_what_may_come_back_is_waited_for_until_the_time_is_up(error):
    persistence = Persistence(Only(GivenToken("t")), 1.0)
    waited_s = 0.0
    with pytest.raises(type(error)) as raised:
        while True:
            waited_s += persistence.delay_after(error)
    assert raised.value is error
    assert waited_s == pytest.approx(1.0)


@pytest.mark.parametrize("error", [TooSlow("slow"), NodeUnavailable("n1"), Unauthenticated("forged")])
def test_what_repeating_does_not_mend_is_raised_at_once(error):
    persistence = Persistence(Only(GivenToken("t")), 10.0)
    persistence.metadata()
    with pytest.raises(type(error)):
        persistence.delay_after(error)


def test_an_answer_starts_a_new_count():
    persistence = Persistence(Only(GivenToken("t")), 0.05)
    away = HeadUnavailable("away")
    assert persistence.delay_after(away) == 0.05
    persistence.succeeded()
    assert persistence.delay_after(away) == 0.05
    with pytest.raises(HeadUnavailable):
        persistence.delay_after(away)


def test_a_token_that_ended_is_renewed_once_and_at_once():
    persistence = Persistence(Only(Renewing()), 10.0)
    assert persistence.metadata() == (("authorization", "Bearer t1"),)
    assert persistence.delay_after(Unauthenticated("expired")) == 0.0
    assert persistence.metadata() == (("authorization", "Bearer t2"),)
    with pytest.raises(Unauthenticated):
        persistence.delay_after(Unauthenticated("expired"))
