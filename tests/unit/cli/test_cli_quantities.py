from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusched.cli import quantities as q
from gpusched.domain.job_spec import WarningSignal

HOUR, DAY = 3600, 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90 * 60),  # sbatch(1): minutes
        ("1:30", 90),  # minutes:seconds
        ("12:00:00", 12 * HOUR),
        ("2-0", 2 * DAY),
        ("2-12", 2 * DAY + 12 * HOUR),
        ("1-2:3", DAY + 2 * HOUR + 180),
        ("1-2:3:4", DAY + 2 * HOUR + 184),
        ("30m", 1800),
        ("2h", 2 * HOUR),
        ("45s", 45),
        ("1d12h", DAY + 12 * HOUR),
        (" 5 ", 300),
    ],
)
def test_a_time_means_what_it_means_to_slurm(text, seconds):
    assert q.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0m", "-5", "1:2:3:4", "5x", "1h30", "1.5h", "h", "999999-0", "٣", "1 h"]
)
def test_a_wrong_time_is_refused(text):
    with pytest.raises(ValueError, match=r"must be|is more than"):
        q.parse_duration(text)


@pytest.mark.parametrize("word", ["UNLIMITED", "infinite"])
def test_slurms_words_for_no_limit_are_none(word):
    assert q.parse_time_limit(word) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("80G", 80 << 30),
        ("80GiB", 80 << 30),
        ("80gb", 80 << 30),
        ("512M", 512 << 20),
        ("4000", 4000 << 20),
        ("1K", 1024),
        ("1T", 1 << 40),
        ("1P", 1 << 50),
    ],
)
def test_a_size_is_in_powers_of_1024_and_mebibytes_by_default(text, size):
    assert q.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1G", "80 H100", "80X", "1.5G", "2P", "9" * 15, "9" * 400, "G"])
def test_a_wrong_size_is_refused(text):
    with pytest.raises(ValueError, match=r"must be|is more than"):
        q.parse_size(text)


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        ("USR1@60", WarningSignal("SIGUSR1", 60)),
        ("SIGTERM@5", WarningSignal("SIGTERM", 5)),
        ("10@0", WarningSignal("SIGUSR1", 0)),
        ("R:usr2", WarningSignal("SIGUSR2", 60)),
    ],
)
def test_a_signal_is_read_as_sbatch_reads_it(text, signal):
    assert q.parse_signal(text) == signal


@pytest.mark.parametrize("text", ["", "NOPE", "USR1@x", "USR1@-1", "B:USR1@60", "99", "@60"])
def test_a_wrong_signal_is_refused(text):
    with pytest.raises(ValueError, match=r"must be|not supported"):
        q.parse_signal(text)


@pytest.mark.parametrize(("text", "ranks"), [("0", (0,)), ("0,3-5", (0, 3, 4, 5)), ("5,1,1-2", (1, 2, 5))])
def test_ranks_are_read_as_a_sorted_set(text, ranks):
    assert q.parse_ranks(text) == ranks


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "0,", "0-9999999", "9999999-9999999"])
def test_wrong_ranks_are_refused(text):
    with pytest.raises(ValueError, match="must be ranks"):
        q.parse_ranks(text)


def test_an_instant_is_relative_or_rfc3339():
    now_us = 1_767_225_600_000_000
    assert q.parse_instant("10m", now_us=now_us) == now_us - 600_000_000
    assert q.parse_instant("2026-01-01T01:00:00.5+01:00", now_us=0) == now_us + 500_000
    assert q.parse_instant("2026-01-01", now_us=0) == now_us
    with pytest.raises(ValueError, match="not 'yesterday'"):
        q.parse_instant("yesterday", now_us=0)


@given(st.integers(0, 4_000_000_000_000_000))
def test_rfc3339_is_read_back_to_the_microsecond(at_us):
    assert q.parse_instant(q.rfc3339(at_us), now_us=0) == at_us


@given(st.text(max_size=30))
def test_no_text_breaks_a_parser(text):
    parsers = (q.parse_count, q.parse_size, q.parse_time_limit, q.parse_signal, q.parse_ranks)
    for parse in (*parsers, lambda text: q.parse_instant(text, now_us=0)):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.44, "0.4s"),
        (0.01, "0s"),
        (9.96, "9s"),
        (3.0, "3s"),
        (59.9, "59s"),
        (60, "1m"),
        (3725, "1h 2m"),
        (90_000, "1d 1h"),
        (3605, "1h"),
    ],
)
def test_a_duration_is_shown_by_its_two_largest_units(seconds, text):
    assert q.show_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (80 << 30, "80 GiB"), (1536 << 30, "1.5 TiB")]
)
def test_a_size_is_shown_in_binary_units(size, text):
    assert q.show_size(size) == text


@pytest.mark.parametrize(
    ("text", "milli"),
    [("0.5", 500), (".5", 500), ("0.125", 125), ("1", 1000), ("0.5000", 500)],
)
def test_a_share_is_read_in_exact_thousandths(text, milli):
    assert q.parse_milli(text) == milli


@pytest.mark.parametrize("text", ["", ".", "0", "0.0005", "0.3333", "1.001", "2", "-0.5", "half", "50%"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ValueError, match=r"from 0\.001 to 1"):
        q.parse_milli(text)


def test_counts_are_read_as_slurm_reads_licences():
    assert q.parse_counts("matlab:2, vcs") == (("matlab", 2), ("vcs", 1))


@pytest.mark.parametrize("text", ["", "a:", "a:x", "a,,b", "a:1,a:2", "a|b", "a@server:1", "a b"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(ValueError, match="commas between"):
        q.parse_counts(text)
