"""The argv of one task: the job's own, and only as much around it as it asked for.

From the inside out:

    command, or {script}              what the job runs; whoever starts the rank fills in {script}
    torchrun ... --no-python          launcher: torchrun
    bash -c 'activate; setup; exec "$@"'    venv, conda, uv, setup lines
    bash -c 'exec podman run ...'     container, by the first runtime that the node has

With none of these the argv is the command itself and no shell takes part. Every shell ends in
``exec``, so a rank is one process and signals reach the job's own program. The command is
passed as arguments, never pasted into shell text; what is pasted is quoted.

Container runtimes are tried in the order in which a kill is sure to reach what they started:
apptainer's processes are the rank's own children, podman's have a monitor of their own, and
docker's live under its daemon and only have signals passed on.
"""

from __future__ import annotations

from shlex import quote

from gpusched.domain.job_spec import Activation, ActivationKind, Launcher
from gpusched.launch.attempt import AttemptContext
from gpusched.launch.ranks import Task

SCRIPT_WORD = "{script}"

_SHELL = ("/bin/bash", "-c")
_SHELL_NAME = "gpusched"  # what bash calls itself in its messages

_VENV = """\
[ -r {directory}/bin/activate ] || {{
  printf 'gpusched: %s is no virtual environment here; name its directory\\n' {directory} >&2; exit 127; }}
. {directory}/bin/activate"""

_CONDA = """\
for conda in "$(command -v conda)" ~/{{miniforge,mambaforge,miniconda,anaconda}}3/bin/conda \
/opt/{{conda,miniforge3,miniconda3,anaconda3}}/bin/conda; do [ -x "$conda" ] && break; conda=; done
[ -n "$conda" ] || {{ echo 'gpusched: no conda on this node; set PATH so that it is found' >&2; exit 127; }}
eval "$("$conda" shell.bash hook)"
conda activate {name}"""

_UV = """\
for uv in "$(command -v uv)" ~/.local/bin/uv ~/.cargo/bin/uv; do [ -x "$uv" ] && break; uv=; done
[ -n "$uv" ] || {{ echo 'gpusched: no uv on this node; set PATH so that it is found' >&2; exit 127; }}
"$uv" sync --quiet --inexact --project {directory}
. {directory}/.venv/bin/activate"""

_CONTAINER = """\
image=$1 workdir=$2 gpus=$3 script=$4; shift 4
if command -v apptainer >/dev/null; then
  case $image in *://*|/*|*.sif) ;; *) image=docker://$image ;; esac
  exec apptainer exec ${{gpus:+--nv}} --bind "$workdir" ${{script:+--bind "$script"}} --pwd "$workdir" \
"$image" "$@"
fi
image=${{image#docker://}}
run=(run --rm --init --network=host --ipc=host --volume "$workdir:$workdir" --workdir "$workdir")
[ -z "$script" ] || run+=(--volume "$script:$script:ro")
for name in {names}; do run+=(--env "$name"); done
if command -v podman >/dev/null; then
  [ -z "$gpus" ] || for gpu in ${{gpus//,/ }}; do run+=(--device "nvidia.com/gpu=$gpu"); done
  exec podman "${{run[@]}}" --userns=keep-id "$image" "$@"
elif command -v docker >/dev/null; then
  [ -z "$gpus" ] || run+=(--gpus "\\"device=$gpus\\"")
  exec docker "${{run[@]}}" --user "$(id -u):$(id -g)" "$image" "$@"
fi
echo "gpusched: no apptainer, podman or docker on this node to run $image; install one or drop container" >&2
exit 127"""

_OF_THE_HOST = frozenset({"PATH", "TMPDIR", "LANG"})
"""Variables that describe the node, not the image."""


def task_argv(context: AttemptContext, task: Task, env: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """Build the argv of one task.

    Args:
        context: The attempt.
        task: The task.
        env: Its environment, whose names a container must be told.
    """
    spec = context.spec
    argv = (SCRIPT_WORD,) if spec.script is not None else spec.command
    if spec.launcher is Launcher.TORCHRUN:
        argv = (*_torchrun(context, task), *argv)
    lines = (*(() if spec.activation is None else (_activation(spec.activation),)), *spec.setup)
    if lines:
        # The first line that fails ends the rank: a job must not run in half an environment.
        argv = (*_SHELL, "\n".join(("set -e", *lines, 'exec "$@"')), _SHELL_NAME, *argv)
    if spec.container is not None:
        argv = (*_container(context, task, env), *argv)
    return argv


def _activation(activation: Activation) -> str:
    target = quote(activation.target)
    match activation.kind:
        case ActivationKind.VENV:
            return _VENV.format(directory=target)
        case ActivationKind.CONDA:
            return _CONDA.format(name=target)
        case ActivationKind.UV:
            return _UV.format(directory=target)


def _torchrun(context: AttemptContext, task: Task) -> tuple[str, ...]:
    """One torchrun per node, meeting on the leased port of the first (torch.distributed.run).

    They number their nodes themselves: with c10d, which elasticity needs, torchrun ignores
    ``--node-rank``.
    """
    spec, allocation = context.spec, context.allocation
    address = allocation.nodes[0].address
    host = f"[{address}]" if ":" in address else address
    return (
        "torchrun",
        f"--nnodes={len(allocation.nodes)}",
        f"--nproc-per-node={spec.tasks_per_node}",
        f"--rdzv-id={context.attempt_id}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={host}:{allocation.master_port}",
        # Said, not guessed from host names: two nodes may share an address, or have several.
        f"--rdzv-conf=is_host={str(task.node_rank == 0).lower()}",
        f"--local-addr={task.part.address}",
        "--no-python",
    )


def _container(context: AttemptContext, task: Task, env: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    spec = context.spec
    names = " ".join(name for name, _ in env if name not in _OF_THE_HOST)
    gpus = ",".join(device.uuid for device in task.part.devices if not device.declared)
    script = SCRIPT_WORD if spec.script is not None else ""
    text = _CONTAINER.format(names=names)
    return (*_SHELL, text, _SHELL_NAME, spec.container or "", spec.workdir, gpus, script)
