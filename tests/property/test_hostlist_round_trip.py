from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpusched.domain.errors import InvalidSpec
from gpusched.domain.hostlist import expand_hostlist, fold_hostlist

names = st.builds(
    lambda prefix, number, width, suffix: f"{prefix}{str(number).zfill(width)}{suffix}",
    st.sampled_from(["n", "node", "gpu-", "r1n", "7x"]),
    st.integers(0, 1200),
    st.integers(0, 5),
    st.sampled_from(["", "", "", "a"]),
)


@given(st.lists(names, max_size=60))
def test_expanding_what_was_folded_gives_the_names_in_order_each_once(given_names: list[str]) -> None:
    assert expand_hostlist(fold_hostlist(given_names)) == tuple(dict.fromkeys(given_names))


@given(st.lists(names, max_size=60))
def test_folding_is_stable_once_folded(given_names: list[str]) -> None:
    text = fold_hostlist(given_names)
    assert fold_hostlist(expand_hostlist(text)) == text


@given(st.text(alphabet="n01-9[],. a\x00", max_size=40))
def test_any_text_is_either_expanded_within_the_limit_or_refused(text: str) -> None:
    try:
        assert len(expand_hostlist(text)) <= 65_536
    except InvalidSpec as error:
        assert len(error.violations) == 1
