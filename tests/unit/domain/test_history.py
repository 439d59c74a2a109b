"""A history knows what it holds, and notices what it lost, however far it has gone on since."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpusched.domain.history import History, Mark, Term
from gpusched.domain.ids import JobId


def lived(lengths: list[int], *, epoch: int = 1, seq: int = 0, name: str = "t") -> tuple[list[Term], int]:
    """Terms of so many events each, and the last seq."""
    terms = []
    for number, length in enumerate(lengths):
        terms.append(Term(epoch + number, f"{name}{number}", seq + 1))
        seq += length
    return terms, seq


def marks(terms: list[Term], last_seq: int) -> list[Mark]:
    """Every mark that somebody may have been given in the course of it."""
    ends = [*(term.first_seq - 1 for term in terms[1:]), last_seq]
    return [
        Mark(term.epoch, term.token, seq, JobId(1))
        for term, end in zip(terms, ends, strict=True)
        for seq in range(term.first_seq - 1, end + 1)
    ]


LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=4)


@given(before=LENGTHS, after=LENGTHS)
def test_whoever_saw_a_part_of_it_is_known_for_ever(before, after):
    terms, seq = lived(before)
    more, end = lived(after, epoch=len(terms) + 1, seq=seq, name="u")
    history = History((*terms, *more))
    assert all(history.knows(mark, end) for mark in marks(terms, seq))


@given(lengths=LENGTHS, data=st.data(), since=LENGTHS)
def test_whoever_saw_more_than_was_restored_is_never_known_again(lengths, data, since):
    terms, last_seq = lived(lengths)
    cut = data.draw(st.integers(0, last_seq))
    kept = [term for term in terms if term.first_seq <= cut + 1]
    # The restored database goes on, with epochs that were used before, by other heads.
    more, end = lived(since, epoch=kept[-1].epoch + 1, seq=cut, name="other ")
    restored = History((*kept, *more))
    for mark in marks(terms, last_seq):
        was_kept = mark.seq <= cut and any(term.token == mark.token for term in kept)
        assert restored.knows(mark, end) == was_kept


def test_a_store_that_keeps_no_terms_misses_nothing():
    assert History().knows(Mark(7, "t", 7, JobId(7)), 0)
    assert History().mark(7, JobId(7)) is None


def test_a_head_is_behind_until_an_operator_accepts_it():
    terms, _ = lived([5])
    seen = Mark(1, "t0", 5, JobId(3))
    assert not History.of(terms, 5, seen, accepts_loss=False).is_behind
    assert History.of(terms, 4, seen, accepts_loss=False).is_behind
    assert not History.of(terms, 4, seen, accepts_loss=True).is_behind
    assert not History.of(terms, 4, None, accepts_loss=False).is_behind
