"""A node that was thrown out stays out, whatever it still holds and whatever it asked for meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpusched.domain.errors import NotPermitted
from gpusched.domain.ids import NodeName
from gpusched.store.database import open_store
from gpusched.store.members import Certificate, JoinToken, MemberRecords

HOUR_US = 3_600_000_000
N1, N2 = NodeName("n1"), NodeName("n2")


def certificate(serial: str, node: NodeName = N1, now_us: int = 1) -> Certificate:
    return Certificate(serial=serial, node=node, issued_at_us=now_us, expires_at_us=now_us + 24 * HOUR_US)


@pytest.fixture
def records(store_url) -> Iterator[MemberRecords]:
    with open_store(store_url) as store:
        for digest, node in ((b"for n1", N1), (b"for any", None), (b"for n2", N2)):
            token = JoinToken(digest=digest, node=node, created_by="root", expires_at_us=HOUR_US)
            store.members.add_token(token, 0)
        yield store.members


def test_a_spent_token_lets_its_key_in_again_until_the_node_is_revoked(records):
    for digest in (b"for n1", b"for any"):
        records.admit(digest, b"key", certificate(f"{digest!r} 1"))
        records.admit(digest, b"key", certificate(f"{digest!r} 2"))
        assert len(records.revoke(N1, 2)) == 2
        with pytest.raises(NotPermitted):
            records.admit(digest, b"key", certificate(f"{digest!r} 3", now_us=3))


def test_a_token_that_nobody_used_is_worth_nothing_after_its_node_was_revoked(records):
    records.revoke(N1, 2)
    with pytest.raises(NotPermitted):
        records.admit(b"for n1", b"key", certificate("1", now_us=3))
    records.admit(b"for n2", b"key", certificate("2", N2, now_us=3))


def test_a_certificate_that_was_asked_for_before_and_comes_after_the_revocation_is_not_given(records):
    records.admit(b"for n1", b"key", certificate("1"))
    records.add_certificate(certificate("2"), "1")
    records.revoke(N1, 2)
    with pytest.raises(NotPermitted, match="was revoked"):
        records.add_certificate(certificate("3"), "2")
    assert records.revoked(3) == {"1", "2"}
    assert records.revoke(N1, 4) == frozenset()


def test_of_many_that_show_one_token_at_the_same_instant_one_comes_in(records):
    def join(number: int) -> bool:
        try:
            records.admit(b"for n1", f"key {number}".encode(), certificate(str(number)))
        except NotPermitted:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(join, range(32))) == 1
