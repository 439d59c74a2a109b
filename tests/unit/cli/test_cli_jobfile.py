from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gpusched.cli.draft import Draft
from gpusched.cli.job_of_draft import spec_of
from gpusched.cli.jobfile import JobFile
from gpusched.cli.yamlfile import read_drafts
from gpusched.domain.errors import InvalidSpec
from gpusched.domain.job_spec import Activation, ActivationKind, JobSpec, Launcher, WarningSignal

CWD = Path("/home/ada")


def specs(text: str | bytes) -> list[JobSpec]:
    data = text.encode() if isinstance(text, str) else text
    return [spec_of(draft, cwd=CWD, name="job") for draft in read_drafts(data, "job.yaml")]


def refusal(text: str | bytes) -> str:
    with pytest.raises(InvalidSpec) as caught:
        specs(text)
    return str(caught.value)


def test_every_field_lands_where_it_belongs():
    (spec,) = specs(
        """\
name: digits
run: [torchrun, train.py]
workdir: src
nodes: 2
gpus_per_node: 8
gpu_model: H100
gpu_mem: 80G
tasks_per_node: 8
cpus_per_task: 12
mem: 512G
time_limit: 12:00:00
account: vision
partition: big
qos: high
nice: 5
env: {LR: 0.1, DEBUG: no, EMPTY: ""}
setup: module load cuda
venv: .venv
launcher: torchrun
signal: USR2@120
kill_wait: 10
requeue: true
nodelist: n[1-2]
exclude: [n3, "n[5-6]"]
hold: yes
log_cap: 1G
comment: a first try
"""
    )
    assert spec == JobSpec(
        name="digits",
        command=("torchrun", "train.py"),
        workdir="/home/ada/src",
        nodes=2,
        gpus_per_node=8,
        gpu_model="H100",
        gpu_memory_bytes=80 << 30,
        tasks_per_node=8,
        cpus_per_task=12,
        memory_bytes=512 << 30,
        time_limit_s=12 * 3600,
        account="vision",
        partition="big",
        qos="high",
        nice=5,
        env=(("LR", "0.1"), ("DEBUG", "no"), ("EMPTY", "")),
        setup=("module load cuda",),
        activation=Activation(ActivationKind.VENV, "/home/ada/.venv"),
        launcher=Launcher.TORCHRUN,
        signal=WarningSignal("SIGUSR2", 120),
        kill_wait_s=10,
        requeue=True,
        nodelist=("n1", "n2"),
        exclude=("n3", "n5", "n6"),
        hold=True,
        log_cap_bytes=1 << 30,
        comment="a first try",
    )


def test_what_is_left_out_gets_the_domains_default():
    (spec,) = specs("run: [a]")
    assert spec == JobSpec(name="job", command=("a",), workdir="/home/ada")


def test_a_string_is_a_bash_script_and_a_list_an_argv():
    assert specs("run: torchrun x\n")[0].script == "#!/bin/bash\ntorchrun x\n"
    assert specs("command: [torchrun, x]\n")[0].command == ("torchrun", "x")


def test_several_documents_are_several_jobs():
    assert [spec.name for spec in specs("name: a\nrun: [x]\n---\n---\nname: b\nrun: [y]\n")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: [a]\n\nname: x\n  \ngpu_per_node: 8\n",
         "job.yaml:5:1: gpu_per_node: unknown field; did you mean gpus_per_node?"),
        ("run: [a]\nnodes: -1\n", "job.yaml:2:1: nodes: must be between 1 and 1000000, not -1"),
        ("run: [a]\nnodes: yes\n", "job.yaml:2:1: nodes: must be a whole number, not 'yes'"),
        ("run: [a]\nnodes: 1.5\n", "job.yaml:2:1: nodes: must be a whole number, not '1.5'"),
        ("run: [a]\nnodes: [1]\n", "job.yaml:2:1: nodes: must be text, not a list"),
        ("run: [a]\nmem: 80 H100\n", "job.yaml:2:1: mem: must be a size such as 80G or 512M, not '80 H100'"),
        ("run: [a]\nmem: 999P\n", "mem: is more than 1 PiB ('999P'); check the unit"),
        ("run: [a]\ntime_limit: soon\n", "job.yaml:2:1: time_limit: must be a time such as"),
        ("run: [a]\nrun: [b]\n", "job.yaml:2:1: run: is given twice; remove one"),
        ("run: [a]\nenv: {A: 1, A: 2}\n", "job.yaml:2:13: A: is given twice; remove one"),
        ("run: [a]\nenv: {9A: 1}\n", "env: '9A' is not a variable's name"),
        ("run: [a]\nenv: {A: }\n", 'env: A has no value; write A: "" for an empty one'),
        ("run: [a]\nenv: A=1\n", "env: must be a mapping of names to values, not str"),
        ("run: [a]\nlauncher: mpi\n", "launcher: must be one of direct, torchrun, not 'mpi'"),
        ("run: [a]\nsignal: BOO@1\n", "signal: must be a signal such as USR1@60"),
        ("run: [a]\nnodelist: n[2-1]\n", "job.yaml:2:1: nodelist: has the range 2-1, which runs backwards"),
        ("run: [a]\nexclude: ../x\n", "exclude: '../x' is no host name"),
        ("run: [a]\ncommand: [b]\n",
         "job.yaml:1:1: give exactly one of run, command or script; not both run and command"),
        ("name: a\n", "job.yaml:1:1: give exactly one of run, command or script; none is there"),
        ("run: [a]\nvenv: x\nuv: y\n", "give at most one of venv, conda and uv, not venv and uv"),
        ("run: [a]\ngpu_model: H100\n", "gpu_model, gpu_mem and mig_profile need gpus_per_node"),
        ("run: []\n", "run: is empty; give the command to run"),
        ("script: nowhere.sh\n", "script: cannot read /home/ada/nowhere.sh: No such file or directory"),
        ("- a\n", "job.yaml:1:1: a job is a mapping of fields"),
        ("just text\n", "job.yaml:1:1: a job is a mapping of fields"),
        ("", "job.yaml: holds no job"),
        ("---\n---\n", "job.yaml: holds no job"),
        ("run: [a\n", "job.yaml:2:1: "),
        ("run: [a]\nenv:\n\tA: 1\n", "job.yaml:3:1: found a tab; YAML is indented with spaces"),
        ("run: &x [a]\n", "job.yaml:1:6: anchors and aliases are not supported; write the value out"),
        ("run: !!python/object/apply:os.system [a]\n",
         "job.yaml:1:6: tags (tag:yaml.org,2002:python/object/apply:os.system)"),
        ("? [a]\n: b\n", "job.yaml:1:3: a field's name is a word"),
        ("run: [a]\nname: \"a\\0b\"\n", "job.yaml:2:1: name: holds a NUL character"),
        ("run: [a]\nname: ''\n", "name: is empty; leave it out or say which"),
        ("run: [a]\nenv: " + "{A: " * 5000 + "x" + "}" * 5000, "is nested too deeply"),
        ("run: [a, \"\\ud800\"]\n", "run: is not valid UTF-8"),
        ("run: [a]\nenv: {RANK: 3}\n", "job.yaml:2:7: env.RANK: "),
        ("run: [\"\", b]\n", "run: is empty"),
        ("run: [a]\nnodes: 70000\n", "job.yaml:2:1: nodes: "),
        (b"run: [a]\nname: \xff\n", "job.yaml:2: byte 0xff is not UTF-8; save it as UTF-8"),
        (b"run: [a]\nname: a\0b\n", "job.yaml:2:8: holds the control character U+0000; remove it"),
        (b"x" * ((1 << 20) + 1), "job.yaml: is larger than 1048576 bytes (1 MiB)"),
        ("run: [a]\nenv:\n  A: " + "x" * 200_000 + "\n",
         "job.yaml:3:3: env.A: has 200002 bytes"),
    ],
)  # fmt: skip
def test_a_wrong_file_gets_one_clear_message(text, message):
    assert message in refusal(text)


def test_every_wrong_field_is_named_at_once_in_the_order_of_the_file():
    text = refusal("run: [a]\nzzz: 1\nnodes: 0\nmem: x\n")
    assert [part.split(": ")[1] for part in text.split("; job.yaml")] and text.index("zzz") < text.index(
        "nodes"
    )
    assert text.index("nodes") < text.index("mem: must")


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_no_bytes_make_the_door_fail_with_anything_but_invalid_spec(data):
    try:
        specs(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    except InvalidSpec as error:
        assert error.violations


@given(st.dictionaries(st.sampled_from([*JobFile.model_fields, "unknown"]), YAML_VALUES, max_size=6))
def test_no_values_make_the_door_fail_with_anything_but_invalid_spec(values):
    try:
        (spec,) = specs(yaml.safe_dump(values, allow_unicode=True))
    except InvalidSpec as error:
        assert error.violations
    else:
        assert bool(spec.command) != bool(spec.script)


@given(st.dictionaries(st.sampled_from([*JobFile.model_fields, "unknown"]), st.text(max_size=30), max_size=6))
def test_no_option_text_makes_the_door_fail_with_anything_but_invalid_spec(values):
    try:
        spec_of(Draft(dict(values)), cwd=CWD, name="job")
    except InvalidSpec as error:
        assert error.violations


def test_the_json_schema_is_the_one_people_have(cli, matches_golden):
    said = cli("job", "schema")
    assert said.code == 0
    assert set(json.loads(said.out)["properties"]) == set(JobFile.model_fields)
    matches_golden("job_schema.json", said.out)
