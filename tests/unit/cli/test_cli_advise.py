"""``gpusched advise-checkpoint``, as typed."""

from __future__ import annotations

import json


def test_it_says_how_often_and_from_what(cli, head):
    said = cli("advise-checkpoint", "--gpus", "504", "--checkpoint-seconds", "30")
    assert said.code == 0
    assert "on 63 nodes" in said.out
    assert "28 failures in 4599.0 node-days" in said.out
    assert "A restart takes" in said.out and "assumed" not in said.out


def test_json_has_the_advice_and_what_it_stands_on(cli, head):
    found = json.loads(cli("advise-checkpoint", "-N", "63", "--checkpoint-seconds", "30", "--json").out)
    assert found["advice"]["nodes"] == 63
    assert 0.9 < found["advice"]["ettr"] < 1
    assert found["history"]["failures"] == 28


def test_the_size_of_a_job_can_be_taken_from_it(cli, head):
    found = json.loads(cli("advise-checkpoint", "17", "--checkpoint-seconds", "30", "--json").out)
    assert found["advice"]["nodes"] >= 1


def test_without_a_size_or_with_two_it_asks_for_one(cli, head):
    for words in ((), ("--gpus", "8", "--nodes", "1")):
        said = cli("advise-checkpoint", "--checkpoint-seconds", "30", *words)
        assert said.code == 2
        assert "give one of JOB, --nodes and --gpus" in said.err
