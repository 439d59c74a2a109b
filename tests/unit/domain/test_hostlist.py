from __future__ import annotations

import pytest

from gpusched.domain.errors import InvalidSpec
from gpusched.domain.hostlist import expand_hostlist, fold_hostlist


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("gpu1", ["gpu1"]),
        ("a,b", ["a", "b"]),
        ("node[001-004,007],gpu1", ["node001", "node002", "node003", "node004", "node007", "gpu1"]),
        ("n[8-11]", ["n8", "n9", "n10", "n11"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("n[1-2]-ib", ["n1-ib", "n2-ib"]),
        ("n[1-3],n2", ["n1", "n2", "n3"]),
        (" a , b[1, 3] ", ["a", "b1", "b3"]),
    ],
)
def test_a_hostlist_stands_for_its_names_in_the_order_written(text: str, names: list[str]) -> None:
    assert list(expand_hostlist(text)) == names


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["node001", "node002", "node003", "node004", "node007", "gpu1"], "node[001-004,007],gpu1"),
        (["n9", "n10"], "n[9-10]"),
        (["n09", "n10"], "n[09-10]"),
        (["n9", "n010"], "n[9,010]"),
        (["n2", "n1"], "n[2,1]"),
        (["a1", "b1", "a2"], "a1,b1,a2"),
        (["a", "a1", "a1"], "a,a1"),
        (["10", "11"], "[10-11]"),
    ],
)
def test_names_fold_into_slurms_shortest_text_for_their_order(names: list[str], text: str) -> None:
    assert fold_hostlist(names) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n[1-", "cannot be read"),
        ("n]", "cannot be read"),
        ("n[]", "cannot be read"),
        ("n[[1]]", "cannot be read"),
        ("a,,b", "cannot be read"),
        ("a,", "cannot be read"),
        ("n[a-b]", "numbers like"),
        ("n[4-1]", "runs backwards; write 1-4"),
        ("n[0-65536]", "65537 names, the limit is 65536"),
        ("n[0-999999999999999999]", "the limit is 65536"),
        ("r[0-999]n[0-999]", "1000000 names"),
        ("../etc", "no host name"),
        ("n 1", "no host name"),
        ("n\x001", "no host name"),
        ("n\udce9", "no host name"),
        ("x" * 300, "no host name"),
        ("a" * (1 << 21), "longer than"),
    ],
)
def test_a_bad_hostlist_gets_one_message_that_names_the_fault(text: str, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words) as caught:
        expand_hostlist(text, field="exclude")
    assert len(caught.value.violations) == 1
    assert caught.value.violations[0].field == "exclude"
    caught.value.violations[0].message.encode()  # can be printed even where the text cannot


def test_the_largest_allowed_hostlist_is_expanded() -> None:
    assert len(expand_hostlist("n[0-65535]")) == 65_536
