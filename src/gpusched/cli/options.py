"""A job's options in sbatch's spelling: on the command line and, through the same table, in directives.

The options only carry text; ``jobfield`` checks it. What Slurm says in totals (``--gpus``,
``--ntasks``, ``--gres``) is turned here into what each node gives.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import click

from gpusched.cli import quantities
from gpusched.cli.draft import Draft, Path, Raw, refuse


def _option(*spellings: str, text: str, **more: Any) -> click.Option:
    return click.Option(spellings, help=text, **more)


def job_options() -> list[click.Parameter]:
    """Fresh click options for one command. A parameter's name is the job file's field, or a Slurm total."""
    return [
        _option("-J", "--job-name", "name", text="Name shown in listings."),
        _option("-N", "--nodes", "nodes", text="Number of nodes."),
        *_gpu_options(),
        _option(
            "--ntasks-per-node", "--tasks-per-node", "tasks_per_node", text="Ranks on each node.", metavar="N"
        ),
        _option("-n", "--ntasks", "ntasks", text="Ranks over all nodes; must divide by --nodes."),
        _option("-c", "--cpus-per-task", "cpus_per_task", text="CPUs of each rank."),
        *_counted_options(),
        _option("-t", "--time", "time_limit", text=f"Time limit: {quantities.TIME_FORMS}."),
        _option("-A", "--account", "account", text="Who pays."),
        _option("-p", "--partition", "partition", text="Partition."),
        _option("-q", "--qos", "qos", text="Quality of service."),
        _option("--nice", "nice", text="Higher goes later."),
        _option("-D", "--chdir", "workdir", text="Working directory; default: the current one."),
        _option(
            "--env", "env", text="NAME=VALUE, or NAME to pass it on.", multiple=True, metavar="NAME[=VALUE]"
        ),
        _option("--setup", "setup", text="Shell line run before the command.", multiple=True, metavar="LINE"),
        _option("--venv", "venv", text="Virtual environment to activate.", metavar="DIR"),
        _option("--conda", "conda", text="Conda environment to activate.", metavar="NAME"),
        _option("--uv", "uv", text="uv project to run in.", metavar="DIR"),
        _option("--container", "container", text="Image to run in.", metavar="IMAGE"),
        _option("--launcher", "launcher", text="direct or torchrun."),
        _option("--signal", "signal", text="Warning before the time limit: USR1@60."),
        _option("--kill-wait", "kill_wait", text="Seconds between SIGTERM and SIGKILL."),
        _option("--requeue/--no-requeue", "requeue", text="May run again after a node failed.", default=None),
        _option(
            "--on-disconnect",
            "on_disconnect",
            text="On a cut-off node: fence or keep_running.",
            metavar="WHAT",
        ),
        _option("--min-gpu-utilization", "min_gpu_utilization", text="Percent of time busy.", metavar="N"),
        _option(
            "--utilization-window", "utilization_window", text="Below it for so long: 1h.", metavar="TIME"
        ),
        _option("--on-low-utilization", "on_low_utilization", text="Then: notify, or end.", metavar="WHAT"),
        _option("--restart-on", "restart_on", text="What --requeue is for: infrastructure, or any."),
        _option("--restarts-max", "restarts_max", text="Restarts by itself, in a row.", metavar="N"),
        _option("--stall-after", "stall_after", text="No work for so long is a stall: 10m, or never."),
        _option("--on-stall", "on_stall", text="Then: notify, or requeue.", metavar="WHAT"),
        _option(
            "--slow-over", "slow_over", text="So much longer steps are slow: 20%, or never.", metavar="N"
        ),
        _option("--slow-steps", "slow_steps", text="Over so many steps at least.", metavar="N"),
        _option("-w", "--nodelist", "nodelist", text="Only these nodes: n[1-4].", metavar="NODES"),
        _option("-x", "--exclude", "exclude", text="Not these nodes.", metavar="NODES"),
        _option("-H", "--hold", "hold", text="Do not start until released.", is_flag=True, default=None),
        _option("--log-cap", "log_cap", text="Log kept per rank.", metavar="SIZE"),
        _option("--comment", "comment", text="Free text."),
        _option(
            "--topology-required",
            "topology_required",
            text="All nodes in one domain of this level.",
            metavar="LEVEL",
        ),
        _option(
            "--topology-preferred",
            "topology_preferred",
            text="As near as this level, if it can be.",
            metavar="LEVEL",
        ),
        _option("--segment", "segment", text="Ranks that stay together: '8 within rack'."),
        _option("--spread", "spread", text="Several domains share a gang: fewest, or even."),
    ]


def _gpu_options() -> list[click.Parameter]:
    return [
        _option("--gpus-per-node", "gpus_per_node", text="GPUs on each node: N or MODEL:N."),
        _option("-G", "--gpus", "gpus", text="GPUs over all nodes: N or MODEL:N; must divide by --nodes."),
        _option("--gres", "gres", text="On each node, as in Slurm: gpu[:MODEL]:N, fpga:1."),
        _option("--gpu-model", "gpu_model", text="GPU model, matched as words: H100."),
        _option("--gpu-mem", "gpu_mem", text="At least this much memory on each GPU: 80G."),
        _option(
            "--gpu-fraction",
            "gpu_fraction",
            text="Share of one GPU, 0.001 to 1: counted, not isolated.",
            metavar="SHARE",
        ),
        _option("--mig-profile", "mig_profile", text="MIG slices of this profile: 1g.10gb."),
    ]


def _counted_options() -> list[click.Parameter]:
    return [
        _option("--mem", "mem", text="Host memory on each node: 64G (a bare number is MiB)."),
        _option("--tmp", "tmp", text="Local disk on each node: 100G (a bare number is MiB)."),
        _option(
            "-L", "--licenses", "licenses", text="Licences of the cluster, held while it runs: matlab:2,vcs."
        ),
    ]


def draft_of(params: Mapping[str, Any], place: str) -> Draft:
    """Turn click's parameters into a draft.

    Args:
        params: By parameter name; None and empty tuples are not given.
        place: Where they stand: ``train.sh:4: #SBATCH`` or ``command line:``.
    """
    given = {name: value for name, value in params.items() if value is not None and value != ()}
    places: dict[Path, str] = {(name,): f"{place} {spelling_of(name)}" for name in given}
    values: dict[str, Raw] = {name: _raw(name, value, places) for name, value in given.items()}
    return Draft(values, places, place.rstrip(":"))


def spelling_of(name: str) -> str:
    """The option's long spelling, for messages."""
    return _LONG[name]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


_LONG = {
    str(option.name): next(text for text in option.opts if text.startswith("--")) for option in job_options()
}

SPELLINGS = tuple(text for option in job_options() for text in (*option.opts, *option.secondary_opts))
"""Every spelling there is, for suggestions."""


def _raw(name: str, value: Any, places: dict[Path, str]) -> Raw:
    if isinstance(value, bool):
        return "true" if value else "false"
    if name == "env":
        return dict(_variable(item, places[(name,)]) for item in value)
    return list(value) if isinstance(value, tuple) else str(value)


def _variable(item: str, place: str) -> tuple[str, str]:
    name, given, value = item.partition("=")
    if given:
        return name, value
    if name not in os.environ:
        raise refuse(f"{place} {name}", "is not set in your shell; write NAME=VALUE")
    return name, os.environ[name]


def per_node(draft: Draft) -> Draft:
    """Replace Slurm's totals and GPU types by the fields of a job file.

    Raises:
        InvalidSpec: A total does not divide by the nodes, or says the same thing twice.
    """
    values, places = dict(draft.values), dict(draft.places)
    work = Draft(values, places, draft.origin)
    if "gres" in values:
        _split_gres(work)
    if "gpus_per_node" in values:
        _split_model(work, "gpus_per_node")
    if "gpus" in values:
        _split_model(work, "gpus")
        _rename(work, "gpus", "gpus_per_node", _share(work, "gpus"))
    if "ntasks" in values:
        _rename(work, "ntasks", "tasks_per_node", _share(work, "ntasks"))
    return work


def _rename(work: Draft, old: str, new: str, value: str) -> None:
    if new in work.values:
        raise refuse(work.place_of((old,)), f"and {spelling_of(new)} are two ways to say it; keep one")
    work.places[(new,)] = work.place_of((old,))
    del work.values[old]
    work.values[new] = value


def _split_gres(work: Draft) -> None:
    """Take the GPUs out of ``gres``; other counters stay."""
    place, given = work.place_of(("gres",)), work.values["gres"]
    text = ",".join(map(str, given)) if isinstance(given, list) else str(given)
    parts = [part.strip() for part in text.split(",")]
    gpus = [part for part in parts if part.partition(":")[0] == "gpu"]
    if any(part.partition(":")[0] in {"shard", "mps"} for part in parts):
        raise refuse(place, "how much a shard is only Slurm's gres.conf knows; give --gpu-fraction 0.5")
    if len(gpus) > 1:
        raise refuse(place, "names GPUs twice; every node gives one model")
    if gpus:
        _rename(work, "gres", "gpus_per_node", gpus[0].partition(":")[2] or "1")
    if others := [part for part in parts if part not in gpus]:
        work.places[("gres",)] = place
        work.values["gres"] = ",".join(others)


def _split_model(work: Draft, field: str) -> None:
    """``h100:4`` in a field of GPUs is a model and a count."""
    model, separator, count = str(work.values[field]).rpartition(":")
    if not separator:
        return
    if "gpu_model" in work.values:
        raise refuse(work.place_of((field,)), "names a GPU model and so does --gpu-model; keep one")
    work.values[field] = count
    work.values["gpu_model"] = model
    work.places[("gpu_model",)] = work.place_of((field,))


def _share(work: Draft, total: str) -> str:
    """A total over all nodes as what each node gives."""
    place = work.place_of((total,))
    try:
        whole = quantities.parse_count(str(work.values[total]))
        nodes = quantities.parse_count(str(work.values.get("nodes") or "1"))
    except ValueError as error:
        raise refuse(place, str(error)) from None
    if whole % nodes:
        raise refuse(place, f"{whole} does not divide by {nodes} nodes; every node gives the same")
    return str(whole // nodes)
