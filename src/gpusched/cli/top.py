"""``gpusched top``: nodes, devices and the queue, live."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from itertools import islice
from threading import Event

import click
from rich.console import Group
from rich.live import Live

from gpusched.cli.as_json import job_json, node_json
from gpusched.cli.job_view import jobs_table
from gpusched.cli.node_view import node_state, sample_cells
from gpusched.cli.screen import Table, print_json, print_line, print_table, state_cell, stdout_console
from gpusched.cli.session import Session, json_option, pass_session
from gpusched.domain.ids import DeviceUuid, JobId
from gpusched.domain.job import JobFilter
from gpusched.domain.job_state import JobState
from gpusched.wire.handlers import JobView, NodeView

_QUEUE_ROWS_MAX = 40
_LIVE = tuple(state for state in JobState if not state.is_terminal)


@click.command()
@click.option("--once", is_flag=True, help="Print once and end.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between looks.",
)
@json_option
@pass_session
def top(session: Session, *, once: bool, interval: float, as_json: bool) -> None:
    """Watch nodes, devices and the queue. Ctrl-C ends it."""
    if as_json:
        nodes, queue = _look(session)
        now_us = session.now_us()
        print_json(
            {"nodes": [node_json(view) for view in nodes], "jobs": [job_json(view, now_us) for view in queue]}
        )
    elif once or not stdout_console().is_terminal:
        devices, jobs = _tables(session)
        print_table(devices)
        print_line("")
        print_table(jobs)
    else:
        with contextlib.suppress(KeyboardInterrupt):  # the way out, not a failure
            _watch(session, interval)


def _watch(session: Session, interval: float) -> None:
    pause = Event()
    with Live(_screen(session), console=stdout_console(), screen=True, auto_refresh=False) as live:
        while not pause.wait(interval):
            live.update(_screen(session), refresh=True)


def _screen(session: Session) -> Group:
    devices, jobs = _tables(session)
    return Group(devices.rich(), "", jobs.rich())


def _tables(session: Session) -> tuple[Table, Table]:
    nodes, queue = _look(session)
    return devices_table(nodes, queue), jobs_table(queue, session.now_us())


def _look(session: Session) -> tuple[list[NodeView], list[JobView]]:
    nodes = sorted(session.client.nodes.list(), key=lambda view: view.node.name)
    queue = list(islice(session.client.jobs.list(JobFilter(states=_LIVE)), _QUEUE_ROWS_MAX))
    return nodes, queue


def devices_table(nodes: Iterable[NodeView], queue: Iterable[JobView]) -> Table:
    """One row per device, with the job that holds it; one row for a node without devices."""
    holders = _holders(queue)
    columns = ("NODE", "STATE", "GPU", "MODEL", "JOB", "BUSY", "USED", "POWER", "TEMP")
    table = Table(columns, right=frozenset({"GPU", "JOB", "BUSY", "POWER", "TEMP"}))
    for view in nodes:
        state = state_cell(node_state(view.node))
        samples = {} if view.sample is None else {item.uuid: item for item in view.sample.devices}
        if not view.node.facts.devices:
            jobs = ",".join(map(str, view.jobs)) or "-"
            table.add(view.node.name, state, "-", "-", jobs, *sample_cells(None))
        for i, device in enumerate(view.node.facts.devices):
            model = f"{device.model} (declared)" if device.declared else device.model
            job = holders.get(device.uuid)
            cells = sample_cells(samples.get(device.uuid))
            table.add(view.node.name, state, str(i), model, "-" if job is None else str(job), *cells)
    return table


def _holders(queue: Iterable[JobView]) -> dict[DeviceUuid, JobId]:
    return {
        gpu.uuid: view.job.job_id
        for view in queue
        if view.job.attempt is not None and view.job.state is not JobState.PENDING
        for part in view.job.attempt.allocation.nodes
        for gpu in part.devices
    }
