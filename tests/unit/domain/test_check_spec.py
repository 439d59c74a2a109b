from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpusched.domain.check_spec import check_spec, require_valid
from gpusched.domain.errors import InvalidSpec
from gpusched.domain.job_spec import Activation, ActivationKind, JobSpec, Launcher, WarningSignal
from gpusched.domain.partition import Partition, Partitions
from gpusched.domain.spec_limits import RESERVED_ENV

GOOD = JobSpec(name="digits", command=("python", "train.py"), workdir="/home/ada")
CLUSTER = Partitions((Partition(name="main"), Partition(name="short", time_limit_max_s=3600)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"command": (), "script": "#!/bin/bash\necho 1\n"},
        {"nodes": 65_536, "tasks_per_node": 16, "cpus_per_task": 65_536},
        {"gpus_per_node": 8, "tasks_per_node": 8},
        {"gpus_per_node": 8, "tasks_per_node": 4},
        {"gpus_per_node": 7, "tasks_per_node": 1},
        {"gpus_per_node": 0, "tasks_per_node": 3},
        {"memory_bytes": 2**53 - 1, "gpu_memory_bytes": 80 << 30},
        {"env": (("PYTHONPATH", "/src"), ("NCCL_DEBUG", "INFO"), ("GREETING", "grüß\nGott"))},
        {"env": tuple((f"V{i}", "x" * 131_000) for i in range(8))},
        {"name": "экспе́римент 🚀", "comment": "ünï"},
        {"time_limit_s": 3600, "partition": "short"},
        {"signal": WarningSignal("SIGTERM", 0), "kill_wait_s": 0},
        {"nodelist": ("n1", "n2"), "exclude": ("n3",), "nodes": 2},
        {"activation": Activation(ActivationKind.VENV, ".venv"), "setup": ("module load x", "")},
        {"gpus_per_node": 1, "gpu_milli": 1},
        {"gpus_per_node": 7, "mig_profile": "1g.10gb+me"},
        {"disk_bytes": 1 << 40, "gres": (("fpga", 2), ("nic", 1)), "licenses": (("matlab", 1_000_000),)},
        {"launcher": Launcher.TORCHRUN, "container": "docker://pytorch/pytorch:2.4"},
    ],
)
def test_a_spec_within_every_limit_is_accepted(changes: dict[str, Any]) -> None:
    assert check_spec(replace(GOOD, **changes), CLUSTER) == ()


NUMBERS = [
    ("nodes", "nodes"),
    ("gpus_per_node", "gpus_per_node"),
    ("tasks_per_node", "tasks_per_node"),
    ("cpus_per_task", "cpus_per_task"),
    ("memory_bytes", "mem"),
    ("gpu_memory_bytes", "gpu_mem"),
    ("time_limit_s", "time_limit"),
    ("kill_wait_s", "kill_wait"),
    ("nice", "nice"),
    ("gpu_milli", "gpu_fraction"),
    ("disk_bytes", "tmp"),
    ("log_cap_bytes", "log_cap"),
]

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"command": ()}, "command", "exactly one of command"),
    ({"script": "#!/bin/sh\n"}, "command", "exactly one of command"),
    ({"command": ("",)}, "command[0]", "name the program"),
    ({"command": ("a", "b\x00c")}, "command[1]", "NUL"),
    ({"command": ("a", "b\udce9")}, "command[1]", "not valid UTF-8"),
    ({"command": ("a", "x" * (128 << 10))}, "command[1]", "131072 bytes"),
    ({"command": ("x" * 100_000,) * 6}, "command", "600006 bytes, the limit is 524288"),
    ({"command": (), "script": "echo"}, "script", "#!"),
    ({"command": (), "script": "#!/bin/sh\n\x00"}, "script", "NUL"),
    ({"command": (), "script": "#!" + "x" * (1 << 20)}, "script", "the limit is 1048576"),
    ({"command": (), "script": "#!/bin/sh\n", "launcher": Launcher.TORCHRUN}, "launcher", "not a script"),
    ({"nodes": 0}, "nodes", "0 is outside 1 to 65536"),
    ({"nodes": -1}, "nodes", "-1 is outside"),
    ({"nodes": 65_537}, "nodes", "65537 is outside"),
    *[({field: 10**5000}, name, "more than 30 digits") for field, name in NUMBERS],
    ({"gpus_per_node": -1}, "gpus_per_node", "-1 is outside 0 to 1024"),
    ({"gpus_per_node": 1025}, "gpus_per_node", "1025"),
    ({"tasks_per_node": 0}, "tasks_per_node", "1 to 4096"),
    ({"cpus_per_task": 0}, "cpus_per_task", "1 to 65536"),
    ({"nodes": 65_536, "tasks_per_node": 17}, "nodes", "1114112 ranks, the limit is 1048576"),
    ({"gpus_per_node": 4, "tasks_per_node": 3}, "gpus_per_node", "shared evenly by 3"),
    ({"gpus_per_node": 2, "tasks_per_node": 4}, "gpus_per_node", "shared evenly by 4"),
    ({"gpus_per_node": 1, "gpu_milli": 0}, "gpu_fraction", "outside 0.001 to 1"),
    ({"gpus_per_node": 1, "gpu_milli": 1001}, "gpu_fraction", "outside 0.001 to 1"),
    ({"gpus_per_node": 2, "gpu_milli": 500}, "gpu_fraction", "give gpus_per_node: 1"),
    ({"gpu_milli": 500}, "gpu_fraction", "give gpus_per_node: 1"),
    ({"mig_profile": "1g.10gb"}, "mig_profile", "how many slices"),
    ({"gpus_per_node": 1, "mig_profile": "10gb"}, "mig_profile", "write like 1g.10gb"),
    (
        {"gpus_per_node": 1, "mig_profile": "1g.10gb", "gpu_milli": 500},
        "mig_profile",
        "leave out gpu_fraction",
    ),
    ({"disk_bytes": -1}, "tmp", "-1"),
    ({"gres": (("fpga", 0),)}, "gres", "0 is outside 1"),
    ({"gres": (("gpu", 1),)}, "gres", "give gpus_per_node"),
    ({"gres": (("a b", 1),)}, "gres", "is not a name"),
    ({"licenses": (("a", 1), ("a", 2))}, "licenses", "add the two up"),
    ({"licenses": tuple((f"l{i}", 1) for i in range(65))}, "licenses", "the limit is 64"),
    ({"memory_bytes": -1}, "mem", "-1"),
    ({"memory_bytes": 2**53}, "mem", "9007199254740992"),
    ({"gpu_memory_bytes": 0}, "gpu_mem", "outside 1"),
    ({"log_cap_bytes": 65_535}, "log_cap", "outside 65536"),
    ({"time_limit_s": 0}, "time_limit", "outside 1"),
    ({"kill_wait_s": 3601}, "kill_wait", "0 to 3600 seconds"),
    ({"kill_wait_s": -1}, "kill_wait", "0 to 3600 seconds"),
    ({"signal": WarningSignal("SIGUSR3")}, "signal", "did you mean SIGUSR"),
    ({"signal": WarningSignal("SIGKILL")}, "signal", "no signal that can warn"),
    ({"signal": WarningSignal("10")}, "signal", "there are SIGALRM"),
    ({"signal": WarningSignal("SIGUSR1", -1)}, "signal", "seconds ahead"),
    ({"nice": -1}, "nice", "outside 0"),
    ({"name": ""}, "name", "1 to 128"),
    ({"name": "  "}, "name", "blank"),
    ({"name": "x" * 129}, "name", "129 characters"),
    ({"name": "a\x1b[31m"}, "name", "control character"),
    ({"name": "a\udcff"}, "name", "not valid UTF-8"),
    ({"account": ""}, "account", "is not a name"),
    ({"account": "(idle)"}, "account", "is not a name"),
    ({"account": "a/b"}, "account", "is not a name"),
    ({"account": "a\n"}, "account", "is not a name"),
    ({"qos": "x" * 65}, "qos", "is not a name"),
    ({"gpu_model": " "}, "gpu_model", "leave the field out"),
    ({"container": "--privileged"}, "container", "begins with '-'"),
    ({"comment": "x" * 1025}, "comment", "1025 characters"),
    ({"env": (("1A", "x"),)}, "env", "not a variable's name"),
    ({"env": (("A=B", "x"),)}, "env", "not a variable's name"),
    ({"env": (("A", "x\x00"),)}, "env.A", "NUL"),
    ({"env": (("A", "\ud800"),)}, "env.A", "not valid UTF-8"),
    ({"env": (("A", "1"), ("A", "2"))}, "env.A", "given twice"),
    ({"env": (("A", "x" * (10 << 20)),)}, "env", "the limit is 1048576"),
    ({"env": (("A", "x" * (131_072 - 2)),)}, "env.A", "has 131072 bytes"),
    ({"env": (("SLURM_PROCID", "1"),)}, "env.SLURM_PROCID", "remove it"),
    ({"env": (("GPUSCHED_ANYTHING", "1"),)}, "env.GPUSCHED_ANYTHING", "remove it"),
    *[({"env": ((name, "1"),)}, f"env.{name}", "set by gpusched") for name in sorted(RESERVED_ENV)],
    ({"workdir": "relative"}, "workdir", "not absolute"),
    ({"workdir": ""}, "workdir", "not absolute"),
    ({"workdir": "/a\nb"}, "workdir", "control"),
    ({"workdir": "/" + "x" * 4095}, "workdir", "4095"),
    ({"activation": Activation(ActivationKind.VENV, "")}, "venv", "names no environment"),
    ({"activation": Activation(ActivationKind.CONDA, "--help")}, "conda", "names no environment"),
    ({"setup": ("ok", "a\x00")}, "setup[1]", "NUL"),
    ({"setup": ("x" * (64 << 10),)}, "setup", "source that"),
    ({"nodelist": ("../x",)}, "nodelist", "no host name"),
    ({"exclude": ("a b",)}, "exclude", "no host name"),
    ({"nodelist": ("a", "b"), "exclude": ("b",), "nodes": 2}, "nodelist", "leaves 1 nodes for a job of 2"),
    ({"nodelist": tuple(f"n{i}" for i in range(65_537))}, "nodelist", "the limit is 65536"),
    ({"partition": "shrt"}, "partition", "did you mean short?"),
    ({"partition": "zzz"}, "partition", "there are main, short"),
    ({"partition": "short"}, "time_limit", "is not given"),
    ({"partition": "short", "time_limit_s": 3601}, "time_limit", "3601 is more than the 3600"),
]


@pytest.mark.parametrize(("changes", "field", "words"), BAD)
def test_each_fault_is_named_with_its_field_and_remedy(
    changes: dict[str, Any], field: str, words: str
) -> None:
    violations = check_spec(replace(GOOD, **changes), CLUSTER)
    assert [v for v in violations if v.field == field and words in v.message], violations
    for violation in violations:
        text = str(violation)
        assert text.encode() and text.isprintable() and len(text) < 400


def test_all_faults_are_reported_together() -> None:
    bad = replace(GOOD, nodes=0, workdir="x", env=(("RANK", "0"),))
    with pytest.raises(InvalidSpec) as caught:
        require_valid(bad, CLUSTER)
    assert [v.field for v in caught.value.violations] == ["nodes", "env.RANK", "workdir"]


def test_without_partitions_a_partition_of_any_name_passes() -> None:
    elsewhere = replace(GOOD, partition="elsewhere")
    assert check_spec(elsewhere, None) == ()
    assert [violation.field for violation in check_spec(elsewhere, CLUSTER)] == ["partition"]
