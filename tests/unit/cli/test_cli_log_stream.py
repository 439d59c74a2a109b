from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from gpusched.cli.log_stream import HELD_BYTES_MAX, Merger, single
from gpusched.domain.logs import LogChunk


def chunk(rank: int, data: bytes, **more) -> LogChunk:
    return LogChunk(global_rank=rank, node="n1", offset=0, data=data, **more)


def merged(*chunks: LogChunk, coloured: bool = False) -> bytes:
    merger = Merger(width=1, is_coloured=coloured)
    return b"".join([*map(merger.feed, chunks), merger.finish()])


def test_lines_of_ranks_do_not_mix():
    assert merged(chunk(0, b"hel"), chunk(1, b"one\ntw"), chunk(0, b"lo\n"), chunk(1, b"o\n")) == (
        b"[1] one\n[0] hello\n[1] two\n"
    )


def test_the_last_line_arrives_without_its_newline():
    assert merged(chunk(0, b"a\nend"), chunk(1, b"tail", is_last=True)) == b"[0] a\n[1] tail\n[0] end\n"


def test_a_progress_bar_keeps_its_prefix_and_gives_way_to_other_lines():
    out = merged(chunk(0, b"10%\r20%\r"), chunk(1, b"x\n"), chunk(0, b"30%\n"))
    assert out == b"[0] 10%\r\n[1] x\n[0] 20%\r[0] 30%\n"


def test_a_return_at_the_start_of_a_line_is_left_out():
    assert merged(chunk(0, b"\r10%"), chunk(0, b"\r20%\n")) == b"[0] 10%\r[0] 20%\n"


def test_windows_line_ends_are_one_line_end_even_across_chunks():
    assert merged(chunk(0, b"a\r"), chunk(0, b"\nb\r\n")) == b"[0] a\r\n[0] b\r\n"


def test_dropped_bytes_leave_a_mark_on_a_line_of_its_own():
    out = merged(chunk(0, b"half"), chunk(0, b"more\n", dropped_bytes=2048))
    assert out == b"[0] half\n[0] [gpusched: 2 KiB of rank 0's output dropped here]\n[0] more\n"
    alone = b"".join(single([chunk(0, b"half"), chunk(0, b"more", dropped_bytes=1)]))
    assert alone == b"half\n[gpusched: 1 B of rank 0's output dropped here]\nmore"


def test_a_line_without_end_is_shown_in_parts_that_do_not_cut_a_character():
    text = ("ü" * HELD_BYTES_MAX * 2).encode()
    merger = Merger(width=1, is_coloured=False)
    parts = [merger.feed(chunk(0, text[i : i + 999])) for i in range(0, len(text), 999)]
    shown = [part for part in parts if part]
    assert len(shown) > 1
    assert "".join(part.decode() for part in shown) + merger.finish().decode() == f"[0] {text.decode()}\n"


def test_each_rank_has_its_colour_on_a_terminal():
    out = merged(chunk(0, b"a\n"), chunk(1, b"b\n"), coloured=True)
    assert out == b"\x1b[36m[0]\x1b[0m a\n\x1b[33m[1]\x1b[0m b\n"


@given(
    st.lists(st.tuples(st.integers(0, 2), st.text(alphabet="aü火\n", max_size=12)), max_size=12),
    st.integers(1, 5),
)
def test_every_line_of_every_rank_comes_out_whole_and_in_order_however_it_was_cut(writes, size):
    chunks = [
        chunk(rank, data[i : i + size])
        for rank, text in writes
        for data in [text.encode()]
        for i in range(0, len(data), size)
    ]
    lines = merged(*chunks).decode().splitlines()
    for rank in range(3):
        written = "".join(text for writer, text in writes if writer == rank)
        expected = written.split("\n")[:-1] + (
            [written.rsplit("\n", 1)[-1]] if written.rsplit("\n", 1)[-1] else []
        )
        assert [line[4:] for line in lines if re.match(rf"\[{rank}\] ", line)] == expected


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_one_rank_comes_out_byte_for_byte(parts):
    assert b"".join(single(chunk(0, part) for part in parts)) == b"".join(parts)
