"""Keys change under load and no valid token is refused; a key that is gone takes its tokens with it."""

from __future__ import annotations

import threading

import pytest

from gpusched.api.auth import LIFETIME_S, TokenAuthority
from gpusched.api.token_keys import TokenKeys, rotate_token_key
from gpusched.domain.errors import ConfigInvalid, Unauthenticated
from gpusched.domain.identity import Identity, RankRef, Role
from gpusched.domain.ids import Epoch, JobId, NodeName

RANK = RankRef(JobId(4), Epoch(2), NodeName("n1"), 3)


class SetClock:
    """Shows what it was set to."""

    def __init__(self) -> None:
        self.us = 1_800_000_000_000_000

    def now_us(self) -> int:
        return self.us

    def monotonic_us(self) -> int:
        return self.us


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def authority(tmp_path, clock) -> TokenAuthority:
    return TokenAuthority(TokenKeys(tmp_path / "token.key"), "c", frozenset({"ops"}), clock)


def test_a_token_says_whom_it_was_given_to(authority):
    person = authority.authenticate(authority.issue(12345, 12).token)
    assert (person.identity.uid, person.identity.gid, person.roles) == (12345, 12, {Role.USER})
    node = authority.authenticate(authority.issue(0, 0, node=NodeName("n1")).token)
    assert (node.node, node.roles, node.rank) == ("n1", {Role.NODE}, None)
    rank = authority.authenticate(authority.issue_for_rank(Identity("12345", 12345, 12), RANK).token)
    assert (rank.rank, rank.roles, rank.node, rank.identity.uid) == (RANK, {Role.RANK}, None, 12345)


def test_tokens_of_the_key_before_hold_and_those_of_the_one_before_that_do_not(authority, tmp_path):
    first = authority.issue(12345, 12).token
    rotate_token_key(tmp_path / "token.key")
    second = authority.issue(12345, 12).token
    assert authority.authenticate(first) == authority.authenticate(second)
    rotate_token_key(tmp_path / "token.key")
    authority.authenticate(second)
    with pytest.raises(Unauthenticated):
        authority.authenticate(first)


def test_a_key_that_is_taken_away_takes_its_tokens_with_it_at_once(authority, tmp_path):
    first = authority.issue(12345, 12).token
    rotate_token_key(tmp_path / "token.key")
    authority.authenticate(first)
    (tmp_path / "token.key.previous").unlink()
    with pytest.raises(Unauthenticated):
        authority.authenticate(first)


def test_another_head_on_the_same_files_takes_the_tokens(authority, tmp_path, clock):
    other = TokenAuthority(TokenKeys(tmp_path / "token.key"), "c", frozenset(), clock)
    rotate_token_key(tmp_path / "token.key")
    assert other.authenticate(authority.issue(12345, 12).token).identity.uid == 12345


@pytest.mark.parametrize("damage", ["", "no key", None])
def test_a_head_goes_on_with_the_keys_it_has_while_a_file_is_unusable(authority, tmp_path, damage):
    token = authority.issue(12345, 12).token
    path = tmp_path / "token.key"
    good = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_text(damage)
        path.chmod(0o600)
    authority.authenticate(token)
    with pytest.raises(ConfigInvalid):
        rotate_token_key(path)
    path.write_bytes(good)
    authority.authenticate(token)


def test_a_key_that_others_can_read_is_refused(tmp_path):
    TokenKeys(tmp_path / "token.key")
    (tmp_path / "token.key").chmod(0o640)
    with pytest.raises(ConfigInvalid, match="others can read"):
        TokenKeys(tmp_path / "token.key")


def test_the_files_of_keys_are_their_owners_alone(tmp_path):
    TokenKeys(tmp_path / "token.key")
    rotate_token_key(tmp_path / "token.key")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["token.key", "token.key.previous"]


@pytest.mark.parametrize("jump_s", [-86_400, -3600, -1, 0, LIFETIME_S - 1])
def test_a_clock_that_jumps_back_or_not_past_the_end_refuses_nothing(authority, clock, jump_s):
    token = authority.issue(12345, 12).token
    clock.us += jump_s * 1_000_000
    assert authority.authenticate(token).identity.uid == 12345


@pytest.mark.parametrize("jump_s", [LIFETIME_S, LIFETIME_S + 1, 86_400])
def test_at_its_end_a_token_holds_no_longer_remembered_or_not(authority, clock, jump_s):
    seen, unseen = authority.issue(12345, 12).token, authority.issue(12346, 12).token
    authority.authenticate(seen)
    clock.us += jump_s * 1_000_000
    for token in (seen, unseen):
        with pytest.raises(Unauthenticated, match="expired"):
            authority.authenticate(token)


def test_no_valid_token_is_refused_while_keys_change(tmp_path, clock):
    """Four callers show tokens not older than one change, as those of 15 minutes are if keys live longer."""
    TokenKeys(tmp_path / "token.key")
    refused: list[Exception] = []
    shown = [0] * 4
    over = threading.Event()

    def call(who: int) -> None:
        keys = (TokenKeys(tmp_path / "token.key") for _ in range(2))
        gives, takes = (TokenAuthority(each, "c", frozenset(), clock) for each in keys)
        while not over.is_set():
            try:
                takes.authenticate(gives.issue(10_000 + who, 1).token)
                shown[who] += 1
            except Unauthenticated as error:
                refused.append(error)

    callers = [threading.Thread(target=call, args=(who,)) for who in range(len(shown))]
    for caller in callers:
        caller.start()
    for _ in range(50):
        rotate_token_key(tmp_path / "token.key")
        before = list(shown)
        while any(now < then + 2 for now, then in zip(shown, before, strict=True)) and not refused:
            over.wait(0.001)
    over.set()
    for caller in callers:
        caller.join()
    assert refused == []
    assert sum(shown) >= 200
