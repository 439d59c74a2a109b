"""The argv of a plan, run by the real bash, with small programs standing in for foreign tools."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from gpusched.domain.job_spec import Activation, ActivationKind
from gpusched.domain.launch_plan import LaunchPlan

PlanOf = Callable[..., LaunchPlan]
SHOW = (sys.executable, "-c", "import os, sys; print(sys.argv[1:], os.environ.get('MARK'))")
TELL = '#!/bin/bash\nprintf "%s" "${0##*/}"\nprintf " <%s>" "$@"\n'


def run(plan: LaunchPlan, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    task = plan.nodes[0].tasks[0]
    env = {"HOME": str(tmp_path), **dict(task.env)}
    return subprocess.run(task.argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def test_setup_lines_act_on_the_command_which_gets_its_words_untouched(
    plan_of: PlanOf, tmp_path: Path
) -> None:
    done = run(plan_of(command=(*SHOW, "a b", "$X", "*", "'\""), setup=("export MARK=1", "cd /")), tmp_path)
    assert done.stdout == "['a b', '$X', '*', '\\'\"'] 1\n", done.stderr


def test_the_first_setup_line_that_fails_ends_the_rank_with_its_code(plan_of: PlanOf, tmp_path: Path) -> None:
    done = run(plan_of(command=SHOW, setup=("(exit 7)", "echo not reached")), tmp_path)
    assert (done.returncode, done.stdout) == (7, "")


def test_the_command_replaces_the_shell(plan_of: PlanOf, tmp_path: Path) -> None:
    done = run(plan_of(command=("sh", "-c", "echo $$ $MARK"), setup=("export MARK=$$",)), tmp_path)
    shell, command = done.stdout.split()
    assert shell == command


def test_a_virtual_environment_is_entered_even_where_its_path_needs_quotes(
    plan_of: PlanOf, tmp_path: Path
) -> None:
    environment = tmp_path / "it's an env"
    write_program(environment / "bin" / "activate", "export MARK=venv\n")
    done = run(plan_of(command=SHOW, activation=Activation(ActivationKind.VENV, str(environment))), tmp_path)
    assert done.stdout == "[] venv\n", done.stderr


def test_a_missing_virtual_environment_ends_the_rank_and_is_named(plan_of: PlanOf, tmp_path: Path) -> None:
    done = run(plan_of(command=SHOW, activation=Activation(ActivationKind.VENV, "nowhere")), tmp_path)
    assert (done.returncode, done.stdout) == (127, "")
    assert "nowhere is no virtual environment" in done.stderr


def test_conda_is_found_in_the_home_directory_and_activated(plan_of: PlanOf, tmp_path: Path) -> None:
    hook = "#!/bin/bash\necho 'conda() { export MARK=\"$*\"; }'\n"
    write_program(tmp_path / "miniforge3" / "bin" / "conda", hook)
    plan = plan_of(
        command=SHOW, activation=Activation(ActivationKind.CONDA, "my env"), env=(("PATH", "/usr/bin:/bin"),)
    )
    assert run(plan, tmp_path).stdout == "[] activate my env\n"


def test_a_uv_project_is_synced_then_entered(plan_of: PlanOf, tmp_path: Path) -> None:
    write_program(tmp_path / ".local" / "bin" / "uv", '#!/bin/bash\necho "$@" >"$HOME/uv.log"\n')
    write_program(tmp_path / "project" / ".venv" / "bin" / "activate", "export MARK=uv\n")
    plan = plan_of(
        command=SHOW, activation=Activation(ActivationKind.UV, "project"), env=(("PATH", "/usr/bin:/bin"),)
    )
    assert run(plan, tmp_path).stdout == "[] uv\n"
    assert (tmp_path / "uv.log").read_text() == "sync --quiet --inexact --project project\n"


def test_a_node_without_conda_or_uv_says_so(plan_of: PlanOf, tmp_path: Path) -> None:
    for kind in (ActivationKind.CONDA, ActivationKind.UV):
        done = run(
            plan_of(command=SHOW, activation=Activation(kind, "x"), env=(("PATH", "/nonexistent"),)), tmp_path
        )
        assert done.returncode == 127
        assert f"no {kind.value} on this node" in done.stderr


def container_plan(
    plan_of: PlanOf, tmp_path: Path, image: str = "pytorch:2", **changes: object
) -> LaunchPlan:
    return plan_of(
        container=image,
        command=("python", "a b"),
        workdir=str(tmp_path),
        env=(("PATH", f"{tmp_path}/bin:{tmp_path}/sys"),),
        **changes,
    )


def test_a_container_runs_in_the_first_runtime_that_the_node_has(plan_of: PlanOf, tmp_path: Path) -> None:
    for tool in ("bash", "id"):
        write_program(tmp_path / "sys" / tool, f'#!/bin/sh\nexec /usr/bin/{tool} "$@"\n')
    plan = container_plan(plan_of, tmp_path)
    for runtime in ("docker", "podman", "apptainer"):  # each is preferred to those before it
        write_program(tmp_path / "bin" / runtime, TELL)
        told = run(plan, tmp_path).stdout
        assert told.startswith(f"{runtime} <"), told
        assert told.endswith("<python> <a b>")


def test_podman_gets_the_job_s_devices_workdir_and_variables(plan_of: PlanOf, tmp_path: Path) -> None:
    write_program(tmp_path / "bin" / "podman", TELL)
    told = run(container_plan(plan_of, tmp_path), tmp_path).stdout
    for words in (
        f"<--volume> <{tmp_path}:{tmp_path}> <--workdir> <{tmp_path}>",
        "<--device> <nvidia.com/gpu=GPU-1-0> <--device> <nvidia.com/gpu=GPU-1-1>",
        "<--env> <RANK>",
        "<--network=host>",
        "<--userns=keep-id> <pytorch:2> <python>",
    ):
        assert words in told
    assert "<PATH>" not in told


def test_docker_and_apptainer_spell_images_and_devices_their_own_way(plan_of: PlanOf, tmp_path: Path) -> None:
    write_program(tmp_path / "sys" / "id", '#!/bin/sh\nexec /usr/bin/id "$@"\n')
    write_program(tmp_path / "bin" / "docker", TELL)
    told = run(container_plan(plan_of, tmp_path, "docker://pytorch:2"), tmp_path).stdout
    assert '<--gpus> <"device=GPU-1-0,GPU-1-1">' in told
    assert "<pytorch:2> <python>" in told
    write_program(tmp_path / "bin" / "apptainer", TELL)
    assert "<--nv>" in (told := run(container_plan(plan_of, tmp_path), tmp_path).stdout)
    assert "<docker://pytorch:2> <python>" in told
    assert "<--nv>" not in (
        told := run(container_plan(plan_of, tmp_path, "/a.sif", declared=True), tmp_path).stdout
    )
    assert "</a.sif> <python>" in told


def test_a_node_without_a_container_runtime_says_so(plan_of: PlanOf, tmp_path: Path) -> None:
    done = run(container_plan(plan_of, tmp_path), tmp_path)
    assert done.returncode == 127
    assert "no apptainer, podman or docker on this node to run pytorch:2" in done.stderr
