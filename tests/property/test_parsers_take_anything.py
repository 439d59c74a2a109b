"""Whatever is read, a parser gives a value or its one kind of error: no other exception, no hang."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parsers import PARSERS, WORDS

TEXTS = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=30).map("".join))
DATA = st.one_of(st.binary(max_size=200), TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))


@pytest.mark.parametrize("what", PARSERS)
@given(data=DATA)
@settings(max_examples=150)
def test_anything_is_a_value_or_refused(what: str, data: bytes) -> None:
    assert PARSERS[what].takes(data) in (True, False)
