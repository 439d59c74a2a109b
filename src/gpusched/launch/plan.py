"""An allocation becomes a plan: a value that is shown, compared, recorded and sent to the nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gpusched.domain.allocation import Allocation
from gpusched.domain.errors import Broken
from gpusched.domain.hostlist import fold_hostlist
from gpusched.domain.identity import Identity
from gpusched.domain.ids import Epoch, JobId
from gpusched.domain.job_spec import JobSpec, OnDisconnect
from gpusched.domain.launch_plan import LaunchPlan, NodeLaunch, TaskLaunch
from gpusched.launch.attempt import AttemptContext
from gpusched.launch.environ import task_environment
from gpusched.launch.ranks import Task, number_tasks
from gpusched.launch.script import task_argv

MakeEnvironment = Callable[[AttemptContext, Task], tuple[tuple[str, str], ...]]


def make_launch_plan(
    job_id: JobId,
    epoch: Epoch,
    spec: JobSpec,
    owner: Identity,
    allocation: Allocation,
    *,
    cluster: str,
    environment: MakeEnvironment = task_environment,
) -> LaunchPlan:
    """Say what each node starts for one attempt. Equal inputs give equal plans, whenever made.

    Args:
        job_id: The job.
        epoch: Its attempt.
        spec: A spec that ``check_spec`` finds no fault with.
        owner: Whom the ranks run as.
        allocation: What was granted; its order of nodes is the order of ranks.
        cluster: The cluster's name.
        environment: Gives each task its variables; where nothing will be started there may be none.

    Returns:
        The nodes in rank order, each with its tasks in rank order: ``tasks_per_node`` of them,
        or one with ``launcher: torchrun``. Environments lack ``HOME``, ``USER``, ``LOGNAME``
        and ``SHELL``, which only the node knows (``environ.py``).

    Raises:
        Broken: The allocation has another number of nodes than the spec asks for.
    """
    if len(allocation.nodes) != spec.nodes:
        raise Broken(
            f"job {job_id} asks for {spec.nodes} nodes and was granted {len(allocation.nodes)}; "
            "report this bug"
        )
    context = AttemptContext(
        job_id=job_id,
        epoch=epoch,
        spec=spec,
        whole=spec,
        owner=owner,
        allocation=allocation,
        cluster=cluster,
        nodelist=fold_hostlist(part.node for part in allocation.nodes),
    )
    numbered = zip(spec.parts_by_node, number_tasks(spec, allocation), strict=True)
    return LaunchPlan(
        tuple(_node_launch(replace(context, spec=part), tasks, environment) for part, tasks in numbered)
    )


def _node_launch(
    context: AttemptContext, tasks: tuple[Task, ...], environment: MakeEnvironment
) -> NodeLaunch:
    spec, part = context.spec, tasks[0].part
    return NodeLaunch(
        job_id=context.job_id,
        epoch=context.epoch,
        node=part.node,
        node_rank=tasks[0].node_rank,
        owner=context.owner,
        workdir=spec.workdir,
        tasks=tuple(_task_launch(context, task, environment(context, task)) for task in tasks),
        devices=tuple(device.uuid for device in part.devices),
        script=spec.script,
        time_limit_s=spec.time_limit_s,
        signal=spec.signal,
        kill_wait_s=spec.kill_wait_s,
        log_cap_bytes=spec.log_cap_bytes,
        gpu_milli=spec.gpu_milli,
        on_disconnect=OnDisconnect.FENCE if spec.is_fenced else OnDisconnect.KEEP_RUNNING,
    )


def _task_launch(context: AttemptContext, task: Task, env: tuple[tuple[str, str], ...]) -> TaskLaunch:
    return TaskLaunch(
        global_rank=task.global_rank,
        local_rank=task.local_rank,
        argv=task_argv(context, task, env),
        env=env,
        cpu_ids=task.cpu_ids if task.part.cpus_pinnable else (),
        devices=tuple(device.uuid for device in task.devices),
    )
