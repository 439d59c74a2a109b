from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusched.cli.directives import read_directives
from gpusched.cli.draft import Draft
from gpusched.cli.job_of_draft import spec_of
from gpusched.cli.options import per_node
from gpusched.domain.errors import InvalidSpec
from gpusched.domain.job_spec import JobSpec


def spec(*lines: str) -> JobSpec:
    script = "\n".join(["#!/bin/bash", *lines, "python train.py", ""])
    read = read_directives(script, "train.sh")
    draft = per_node(read.draft.updated(Draft({"script": script})))
    return spec_of(draft, cwd=Path("/home/ada"), name="train.sh")


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("#SBATCH -N 2", "nodes", 2),
        ("#SBATCH --nodes=2", "nodes", 2),
        ("#SBATCH --nodes=2   # two of them", "nodes", 2),
        ("#SBATCH -J 'my job'", "name", "my job"),
        ("#SBATCH --gpus-per-node=4", "gpus_per_node", 4),
        ("#SBATCH --gpus-per-node=h100:4", "gpu_model", "h100"),
        ("#SBATCH --gres=gpu:a100:4", "gpus_per_node", 4),
        ("#SBATCH --gres=gpu", "gpus_per_node", 1),
        ("#SBATCH --gres=gpu:2,fpga:3", "gpus_per_node", 2),
        ("#SBATCH --gres=gpu:2,fpga:3", "gres", (("fpga", 3),)),
        ("#SBATCH --gres=fpga,nic:2", "gres", (("fpga", 1), ("nic", 2))),
        ("#SBATCH --licenses=matlab:2,vcs", "licenses", (("matlab", 2), ("vcs", 1))),
        ("#SBATCH -L vcs", "licenses", (("vcs", 1),)),
        ("#SBATCH --tmp=10G", "disk_bytes", 10 << 30),
        ("#SBATCH -N 2 -G 8", "gpus_per_node", 4),
        ("#SBATCH -N 2 -n 8", "tasks_per_node", 4),
        ("#SBATCH --ntasks-per-node=4", "tasks_per_node", 4),
        ("#SBATCH -c 12", "cpus_per_task", 12),
        ("#SBATCH --mem=4000", "memory_bytes", 4000 << 20),
        ("#SBATCH -t 1-0", "time_limit_s", 86_400),
        ("#SBATCH -A vision", "account", "vision"),
        ("#SBATCH -p big", "partition", "big"),
        ("#SBATCH -q high", "qos", "high"),
        ("#SBATCH -D /scratch", "workdir", "/scratch"),
        ("#SBATCH -w n[1-2]", "nodelist", ("n1", "n2")),
        ("#SBATCH -x n3", "exclude", ("n3",)),
        ("#SBATCH --requeue", "requeue", True),
        ("#SBATCH -H", "hold", True),
        ("#GPUSCHED --gpus-per-node 1 --gpu-fraction 0.125", "gpu_milli", 125),
        ("#GPUSCHED --gpus-per-node 2 --mig-profile 1g.10gb", "mig_profile", "1g.10gb"),
        ("#GPUSCHED --env A=1 --env B=x=y", "env", (("A", "1"), ("B", "x=y"))),
        ("#GPUSCHED --setup 'module load cuda'", "setup", ("module load cuda",)),
        ("#SBATCH --comment='a b'", "comment", "a b"),
    ],
)
def test_a_directive_means_what_it_means_to_sbatch(line, field, value):
    assert getattr(spec(line), field) == value


def test_the_script_itself_is_kept_whole():
    assert spec("#SBATCH -N 2").script == "#!/bin/bash\n#SBATCH -N 2\npython train.py\n"


def test_later_lines_win_and_gpusched_wins_over_sbatch():
    assert spec("#SBATCH -N 2", "#SBATCH -N 3").nodes == 3
    assert spec("#GPUSCHED -N 4", "#SBATCH -N 3").nodes == 4


def test_lines_that_only_look_like_directives_are_comments():
    assert spec("##SBATCH -N 2", "# SBATCH -N 3", " #SBATCH -N 4", "#SBATCHX -N 5").nodes == 1


def test_a_directive_after_the_first_command_is_named_and_not_read():
    read = read_directives("#!/bin/bash\necho\n#SBATCH -N 2\n", "train.sh")
    assert read.draft.values == {}
    assert read.warnings == ("train.sh:3: #SBATCH after the first command is not read; move it up",)


@pytest.mark.parametrize(
    "line",
    ["-o x.log", "--output=x", "-e y", "--mail-type=ALL", "--mail-user=a@b.c", "--export=ALL", "--wckey=x"],
)
def test_a_harmless_directive_warns_with_its_line(line):
    read = read_directives(f"#!/bin/bash\n#SBATCH {line}\n", "train.sh")
    assert read.draft.values == {}
    assert len(read.warnings) == 1
    assert read.warnings[0].startswith("train.sh:2: #SBATCH --")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "#SBATCH --tiem=5",
            "train.sh:2: #SBATCH --tiem: unknown or unsupported directive; did you mean --time?",
        ),
        ("#SBATCH --array=0-3", "train.sh:2: #SBATCH --array: unknown or unsupported directive"),
        ("#SBATCH -N", "train.sh:2: #SBATCH: Option '-N' requires an argument"),
        ("#SBATCH -N 2 train", "train.sh:2: #SBATCH: Got unexpected extra argument"),
        ("#SBATCH -J 'x", "train.sh:2: #SBATCH: no closing quotation; check the quotes"),
        ("#SBATCH -N two", "train.sh:2: #SBATCH --nodes: must be a whole number, not 'two'"),
        ("#SBATCH -N 3 -G 8", "train.sh:2: #SBATCH --gpus: 8 does not divide by 3 nodes"),
        (
            "#SBATCH -G 8 --gpus-per-node=8",
            "#SBATCH --gpus: and --gpus-per-node are two ways to say it; keep one",
        ),
        ("#SBATCH --gres=shard:2", "#SBATCH --gres: how much a shard is only Slurm's gres.conf knows"),
        ("#SBATCH --gres=gpu:1,gpu:2", "#SBATCH --gres: names GPUs twice"),
        ("#SBATCH --licenses=a|b", "#SBATCH --licenses: must be NAME[:COUNT] with commas between"),
        ("#GPUSCHED --env NOT_SET_ANYWHERE", "#GPUSCHED --env NOT_SET_ANYWHERE: is not set in your shell"),
    ],
)
def test_a_wrong_directive_is_refused_with_its_line(line, message):
    with pytest.raises(InvalidSpec) as caught:
        spec(line)
    assert message in str(caught.value)


@given(st.text(max_size=80))
def test_no_directive_text_fails_with_anything_but_invalid_spec(text):
    try:
        spec(f"#SBATCH {text}")
    except InvalidSpec as error:
        assert error.violations
