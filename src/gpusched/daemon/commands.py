"""The commands that start processes: ``up``, ``head``, ``agent``, ``token``.

Imports of what a command runs stand inside it, so that ``--help`` needs none of it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click

from gpusched.domain.ids import NodeName

HOME_HELP = "Where sockets and state live. [default: $GPUSCHED_HOME, else ~/.gpusched]"
home_option = click.option("--home", type=click.Path(path_type=Path), envvar="GPUSCHED_HOME", help=HOME_HELP)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file. [default: config.toml in the home, if there is one]",
)


def home_of(given: Path | None) -> Path:
    """The head's home: as given, else from the environment.

    Raises:
        ConfigInvalid: Its path is not UTF-8.
    """
    from gpusched.domain.errors import ConfigInvalid
    from gpusched.wire.address import default_home

    home = default_home() if given is None else given.absolute()
    if any("\udc80" <= char <= "\udcff" for char in str(home)):  # bytes that Python found no character for
        raise ConfigInvalid(f"{str(home)!a} is not UTF-8: choose another --home")
    return home


def _be_daemon(name: str) -> None:
    """Log to standard error; keep keys and tokens out of core dumps (prctl(2), PR_SET_DUMPABLE)."""
    from gpusched.agent.shim.proc import PR_SET_DUMPABLE, prctl

    prctl(PR_SET_DUMPABLE, 0)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {name} %(levelname)s %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)


@click.command()
@home_option
@config_option
@click.option("--tcp", metavar="HOST:PORT", help="Overrides listen.tcp; an empty one listens on no TCP port.")
@click.option(
    "--accept-restored-database",
    "accepts_loss",
    is_flag=True,
    help="The database went back in time: go on with what it holds.",
)
def head(home: Path | None, config: Path | None, tcp: str | None, accepts_loss: bool) -> None:
    """Run the head: the scheduling daemon.

    \b
    Example:
        gpusched head --config /etc/gpusched/head.toml
    """
    from gpusched.daemon.config import find_config
    from gpusched.wire.tls_version import require_tls_1_3

    require_tls_1_3()
    place = home_of(home)
    settings = find_config(place, config)
    from gpusched.daemon.head import Serving, run_head  # takes longest: not for a file that is wrong

    if tcp is not None:
        settings = settings.model_copy(update={"listen": settings.listen.model_copy(update={"tcp": tcp})})
    _be_daemon("head")

    def ready(serving: Serving) -> None:
        by = "" if serving.leader is None else f", standing by: {serving.leader} leads"
        click.echo(f"gpusched head: cluster {serving.cluster} on {' '.join(serving.addresses)}{by}")
        sys.stdout.flush()

    asyncio.run(run_head(place, settings, ready, accepts_loss=accepts_loss))


@click.command()
@home_option
@click.option("--name", required=True, help="The node's name, unique in the cluster.")
@click.option(
    "--head",
    "address",
    metavar="ADDRESS",
    help="unix:///path or host:port; several by commas. [default: the local head]",
)
@click.option(
    "--devices",
    metavar="SPEC",
    help="Declare devices instead of reading them: 4xH100, 2xA100,1xL4, none.",
)
@click.option("--cpus", type=click.IntRange(1, 65_536), help="Declare CPUs instead of counting them.")
@click.option("--memory-gib", type=click.IntRange(1, 1 << 23), help="Declare memory instead of reading it.")
@click.option(
    "--shareable",
    is_flag=True,
    help="Let jobs share each GPU in fractions. They take turns on it; nothing isolates them.",
)
@click.option(
    "--disk-gib",
    type=click.IntRange(0, 1 << 23),
    help="Declare local disk instead of reading the size of /tmp.",
)
@click.option(
    "--gres",
    "counters",
    multiple=True,
    metavar="NAME=COUNT",
    help="Something else that jobs may ask for and hold: fpga=2.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="What the site says of this machine, like rack=r1; topology levels can read it.",
)
@click.option(
    "--join",
    "join_from",
    metavar="FILE",
    help="Join the cluster first, with the token in FILE; -: standard input, env: $GPUSCHED_JOIN_TOKEN.",
)
@click.option("--ca-fingerprint", metavar="sha256:HEX", help="Whom to believe when joining. [with --join]")
@click.option(
    "--health",
    "health_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file: what to check on this node, and its hooks.",
)
@click.option(
    "--on-stop",
    type=click.Choice(["leave", "end"]),
    default="leave",
    show_default=True,
    help="What happens to jobs when the agent is asked to stop.",
)
def agent(
    home: Path | None,
    name: str,
    address: str | None,
    devices: str | None,
    cpus: int | None,
    memory_gib: int | None,
    shareable: bool,
    disk_gib: int | None,
    counters: tuple[str, ...],
    labels: tuple[str, ...],
    join_from: str | None,
    ca_fingerprint: str | None,
    health_file: Path | None,
    on_stop: str,
) -> None:
    """Run a node's agent: reads devices, starts and supervises ranks.

    \b
    Examples:
        gpusched agent --name n1
        gpusched agent --name laptop --devices 4xH100 --shareable
        gpusched agent --name n7 --head head1:7460 --join n7.token --ca-fingerprint sha256:...
    """
    from gpusched.agent.declared import parse_counters, parse_labels
    from gpusched.agent.facts import Declared
    from gpusched.agent.health.settings import HealthSettings
    from gpusched.agent.main import AgentSettings, OnStop, run_agent
    from gpusched.agent.membership import joining_with

    health = HealthSettings()
    if health_file is not None:
        from gpusched.daemon.agent_config import load_health  # pydantic: who has no file is spared it

        health = load_health(health_file)
    _be_daemon(f"agent {name}")
    settings = AgentSettings(
        node=NodeName(name),
        home=home_of(home) / "agents" / name,
        address=address,
        devices=devices,
        declared=Declared(
            cpus=cpus,
            memory_bytes=None if memory_gib is None else memory_gib << 30,
            labels=parse_labels(labels),
            disk_bytes=None if disk_gib is None else disk_gib << 30,
            gres=parse_counters(counters),
        ),
        is_shareable=shareable,
        on_stop=OnStop(on_stop),
        joining=joining_with(join_from, ca_fingerprint),
        health=health,
    )
    asyncio.run(run_agent(settings))


@click.command()
@home_option
@config_option
@click.option("--nodes", type=click.IntRange(1, 64), default=2, show_default=True, help="Agents to start.")
@click.option(
    "--devices",
    metavar="SPEC",
    help="Devices of each node. [default: read by NVML on one node; without NVML, 4 declared H100 each]",
)
@click.option(
    "--shareable",
    is_flag=True,
    help="Let jobs share each GPU in fractions. They take turns on it; nothing isolates them.",
)
@click.option("--cpus", type=click.IntRange(1, 65_536), help="CPUs of each node. [default: this machine's]")
@click.option("--tcp", metavar="HOST:PORT", help="Overrides listen.tcp.")
def up(
    home: Path | None,
    config: Path | None,
    nodes: int,
    devices: str | None,
    shareable: bool,
    cpus: int | None,
    tcp: str | None,
) -> None:
    """Run a whole cluster on this machine: a head and agents, until Ctrl-C.

    \b
    Examples:
        gpusched up
        gpusched up --nodes 2 --devices 8xA100
    """
    from gpusched.daemon.up import UpSettings, run_up

    settings = UpSettings(
        home=home_of(home),
        config=config,
        nodes=nodes,
        devices=devices,
        is_shareable=shareable,
        cpus=cpus,
        tcp=tcp,
    )
    sys.exit(asyncio.run(run_up(settings)))


@click.command()
@home_option
def token(home: Path | None) -> None:
    """Print a short-lived token of the calling user, for tools like grpcurl.

    \b
    Example:
        grpcurl -plaintext -unix -H "authorization: Bearer $(gpusched token)" \\
            ~/.gpusched/head.sock list
    """
    from gpusched.wire.address import TOKEN_SOCKET
    from gpusched.wire.token_socket import fetch_token

    click.echo(fetch_token(home_of(home) / TOKEN_SOCKET))
