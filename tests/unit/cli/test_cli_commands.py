"""Commands end to end against a head made of values: what is asked, what is said, how it ends."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fakes.cli_head import MINUTE_US, NOW_US, SPEC

from gpusched.cli.exit_codes import MEANINGS, ExitCode, exit_code_of
from gpusched.domain import errors
from gpusched.domain.job_spec import Activation, ActivationKind
from gpusched.domain.job_state import JobState
from gpusched.domain.logs import LogChunk


def submitted(head):
    return next(what[1] for what in head.asked if what[0] == "submit")


def test_submit_sends_an_argv_and_prints_the_id(cli, head, tmp_path):
    said = cli("submit", "-N", "2", "--gpus-per-node", "8", "--", "python", "-u", "train.py", "--nodes", "9")
    assert (said.code, said.out, said.err) == (0, "Submitted job 19\n", "")
    spec = submitted(head)
    assert spec.command == ("python", "-u", "train.py", "--nodes", "9")
    assert (spec.name, spec.nodes, spec.gpus_per_node, spec.workdir) == ("train.py", 2, 8, str(tmp_path))
    assert head.is_closed


def test_submit_prints_the_id_alone_or_as_json_when_asked(cli):
    assert cli("submit", "--parsable", "--", "true").out == "19\n"
    assert json.loads(cli("submit", "--json", "--", "true").out) == [{"job_id": 19, "name": "true"}]


def test_submit_reads_a_script_and_the_command_line_wins(cli, head, tmp_path):
    (tmp_path / "train.sh").write_text("#!/bin/bash\n#SBATCH -N 2 -t 60\n#SBATCH -o x.log\npython train.py\n")
    said = cli("submit", "train.sh", "-N", "4")
    assert said.code == 0
    assert "train.sh:3: #SBATCH --output is not used" in said.err
    spec = submitted(head)
    assert (spec.nodes, spec.time_limit_s, spec.name) == (4, 3600, "train.sh")
    assert spec.script.startswith("#!/bin/bash\n#SBATCH")


def test_submit_sends_several_documents_as_one_batch(cli, head, tmp_path):
    (tmp_path / "jobs.yaml").write_text("run: [a]\nenv: {A: 1}\n---\nname: b\nrun: [b]\n")
    said = cli("submit", "jobs.yaml", "-A", "vision", "--env", "B=2")
    assert said.out == "Submitted job 19\nSubmitted job 20\n"
    ((verb, specs),) = head.asked
    assert verb == "submit_many"
    assert [(spec.name, spec.account, spec.env) for spec in specs] == [
        ("jobs", "vision", (("A", "1"), ("B", "2"))),
        ("b", "vision", (("B", "2"),)),
    ]


def test_a_job_file_may_name_a_script(cli, head, tmp_path):
    (tmp_path / "x.sh").write_text("#!/bin/sh\ntrue\n")
    (tmp_path / "job.yml").write_text("script: x.sh\n")
    assert cli("submit", "job.yml").code == 0
    assert submitted(head).script == "#!/bin/sh\ntrue\n"


def test_the_shells_own_environment_is_taken_and_said(cli, head, monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", "/home/ada/.venv")
    said = cli("submit", "--", "true")
    assert submitted(head).activation == Activation(ActivationKind.VENV, "/home/ada/.venv")
    assert "Using your venv /home/ada/.venv" in said.err
    assert said.out == "Submitted job 19\n"


def test_a_chosen_environment_is_not_overruled_by_the_shells(cli, head, monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", "/home/ada/.venv")
    assert cli("submit", "--conda", "torch", "--", "true").err == ""
    assert submitted(head).activation == Activation(ActivationKind.CONDA, "torch")


def test_a_variable_is_passed_on_by_its_name(cli, head, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    cli("submit", "--env", "WANDB_API_KEY", "--", "true")
    assert submitted(head).env == (("WANDB_API_KEY", "s3cret"),)


def test_a_dry_run_submits_nothing(cli, head):
    said = cli("submit", "--dry-run", "--", "true")
    assert said.code == 0
    assert [what[0] for what in head.asked] == ["plan"]
    assert said.out.endswith("Nothing was submitted.\n")


def test_a_dry_run_that_would_wait_says_why(cli, head):
    waiting = replace(head.jobs.preview, plan=None, price_per_hour=None)
    head.jobs.preview = replace(waiting, diagnosis=head.jobs.explain(17))
    out = cli("submit", "--dry-run", "--", "true").out
    assert "Waits for 2 nodes" in out
    assert "gpus_free" in out
    assert "It would start now with any one of these:\n  any GPU model" in out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("submit",), "nothing to run"),
        (("submit", "--"), "nothing to run"),
        (("submit", "python", "train.py"),
         "one file is taken; to run a command, write -- before it: -- python train.py"),
        (("submit", "nowhere.sh"), "nowhere.sh: no such file"),
        (("submit", "-N", "0", "--", "a"), "command line: --nodes: must be between 1 and 1000000, not 0"),
        (("submit", "--nodez", "1", "--", "a"), "No such option '--nodez'"),
        (("submit", "--mem", "80 H100", "--", "a"), "command line: --mem: must be a size"),
        (("submit", "--", "\udcff"), "is not valid UTF-8"),
        (("job", "show", "x"), "a job's id is a number such as 17, not 'x'"),
        (("job", "show", "-1"), "No such option '-1'"),
        (("logs", "17", "--rank", "3-1"), "must be ranks such as 0 or 0,3-5"),
        (("logs", "17", "--since", "yesterday"), "must be 10m (that long ago)"),
        (("logs", "17", "--tail", "-1"), "must be between 0 and"),
        (("cost", "--by", "colour"), "'colour' is not one of"),
        (("cost", "--from", "1h", "--to", "2h"), "--from must be before --to"),
        (("cost", "--csv", "--json"), "exclude each other"),
        (("ps", "--state", "LOST"), "no such state: LOST; there are PENDING"),
        (("subm",), "no such command: subm; did you mean submit?"),
        (("node", "drain", "n1", "-m", "x", "--deadline", "soon"), "must be a time such as"),
    ],
)  # fmt: skip
def test_wrong_input_ends_with_2_says_one_thing_and_asks_nothing(argv, said, cli, head):
    answer = cli(*argv)
    assert answer.code == 2
    assert answer.err.startswith("gpusched: error: ")
    assert said in answer.err
    assert (answer.out, head.asked) == ("", [])


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("job", "show", "99"), 3, "no job 99"),
        (("node", "show", "n9"), 3, "no node n9"),
        (("logs", "99"), 3, "no job 99"),
        (("cancel", "99"), 3, "no job 99"),
        (("job", "show", "17", "--rank", "4"), 3, "job 17 has no rank 4; its ranks are 0 to 3"),
        (("job", "show", "18", "--env"), 7, "job 18 has not been placed yet"),
    ],
)
def test_a_refused_request_ends_with_the_documented_code(argv, code, said, cli):
    answer = cli(*argv)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert "Traceback" not in answer.err


ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.GpuschedError)
]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_documented_exit_code(kind):
    error = kind((errors.Violation("a", "b"),)) if kind is errors.InvalidSpec else kind("x")
    code = exit_code_of(error)
    assert code in MEANINGS
    assert code is not ExitCode.OK
    assert (code is ExitCode.FAILED) == (kind in {errors.GpuschedError, errors.Rejected})


def test_an_unexpected_failure_is_one_line_without_a_traceback(cli, head):
    head.jobs.list = None
    said = cli("ps")
    assert said.code == 8
    assert "unexpected TypeError" in said.err
    assert "Traceback" not in said.err


def test_cancel_goes_on_past_a_job_that_is_not_there(cli, head):
    said = cli("cancel", "17", "99", "18")
    assert said.code == 3
    assert said.out == "Job 17 cancelled\nJob 18 cancelled\n"
    assert [what for what in head.asked if what[0] == "cancel"] == [("cancel", 17), ("cancel", 18)]


@pytest.mark.parametrize(
    ("verb", "done"), [("hold", "held"), ("release", "released"), ("requeue", "requeued")]
)
def test_a_change_says_what_was_done(verb, done, cli, head):
    assert cli("job", verb, "18").out == f"Job 18 {done}\n"
    assert head.asked == [(verb, 18)]


def test_ps_asks_for_jobs_that_have_not_ended(cli, head):
    cli("ps", "-u", "ada")
    ((_, where),) = head.asked
    assert where.user == "ada"
    assert where.states
    assert not any(state.is_terminal for state in where.states)


def test_ps_filters_by_state(cli, head):
    cli("ps", "--state", "failed,RUNNING")
    assert head.asked[0][1].states == (JobState.FAILED, JobState.RUNNING)


def test_ps_says_when_there_is_more(cli):
    said = cli("ps", "-n", "1", "--json")
    assert [job["job_id"] for job in json.loads(said.out)] == [17]
    assert "Only the first 1 are shown" in said.err


def test_nodes_are_taken_out_and_put_back(cli, head):
    cli("node", "cordon", "n1", "-m", "fan")
    cli("node", "drain", "n1", "-m", "fan", "--deadline", "30m")
    cli("node", "resume", "n1")
    assert head.asked == [("cordon", "n1", "fan"), ("drain", "n1", "fan", 1800), ("resume", "n1")]


def test_cost_asks_for_the_window(cli, head):
    cli("cost", "--by", "job", "--from", "10m")
    assert head.asked == [("cost", "job", NOW_US - 10 * MINUTE_US, None)]


def test_logs_ask_for_what_was_asked(cli, head):
    head.jobs.chunks = [LogChunk(global_rank=0, node="n1", offset=0, data=b"x")]
    said = cli("logs", "17", "--rank", "0,2-3", "-f", "--since", "1m", "--tail", "0", "--attempt", "2")
    query = {"epoch": 2, "ranks": (0, 2, 3), "since_us": NOW_US - MINUTE_US, "tail_lines": 0, "follow": True}
    assert head.asked == [("logs", 17, query)]
    assert said.out == "[0] x\n"


def test_logs_of_a_job_with_one_rank_have_no_prefix(cli, head):
    job = head.jobs.views[17].job
    head.jobs.views[17] = replace(
        head.jobs.views[17], job=replace(job, spec=replace(SPEC, nodes=1, tasks_per_node=1))
    )
    head.jobs.chunks = [LogChunk(global_rank=0, node="n1", offset=0, data="ü".encode()[:1])]
    head.jobs.chunks += [LogChunk(global_rank=0, node="n1", offset=1, data="ü".encode()[1:])]
    assert cli("logs", "17").out == "ü"


def test_logs_as_json_are_one_object_per_line(cli, head):
    head.jobs.chunks = [LogChunk(global_rank=1, node="n2", offset=5, data=b"hi\xff\n", is_last=True)]
    (line,) = cli("logs", "17", "--json").out.splitlines()
    assert json.loads(line)["text"] == "hi\ufffd\n"


def test_check_needs_no_head(cli, head, tmp_path):
    (tmp_path / "job.yaml").write_text("run: [a]\nnodes: 2\ngpus_per_node: 8\n")
    assert cli("job", "check", "job.yaml").out == "job: fine (2 x 8 GPUs, 2 ranks)\n"
    assert head.asked == []
