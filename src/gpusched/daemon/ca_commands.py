"""``gpusched ca``: the cluster's certificate authority, as files of the head's home."""

from __future__ import annotations

from pathlib import Path

import click

from gpusched.cli.session import Session, pass_session
from gpusched.daemon.commands import config_option, home_of, home_option
from gpusched.domain.errors import NotFound
from gpusched.domain.ids import NodeName

dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the CA lies. [default: ca in the head's home]",
)


@click.group()
def ca() -> None:
    """The cluster's certificate authority: who is a head, who is a node.

    Run these on the head's machine, as the head's user.
    """


@ca.command("init")
@home_option
@config_option
@dir_option
def init(home: Path | None, config: Path | None, folder: Path | None) -> None:
    """Make the cluster's CA. Its key stays in the head's home, mode 0600.

    \b
    Example:
        gpusched ca init
    """
    from gpusched.api.ca import at, create_ca
    from gpusched.daemon.clock import SystemClock
    from gpusched.daemon.config import find_config
    from gpusched.daemon.head import make_home

    place = home_of(home)
    cluster = find_config(place, config).cluster
    if folder is None:
        make_home(place)
    fingerprint = create_ca(_folder(place, folder), cluster, at(SystemClock().now_us()))
    click.echo(f"CA of cluster {cluster} made in {_folder(place, folder)}")
    click.echo(f"fingerprint {fingerprint}")


@ca.command("show")
@home_option
@dir_option
@click.option("--pem", "wants_pem", is_flag=True, help="Print the certificates themselves: GPUSCHED_CA_FILE.")
def show(home: Path | None, folder: Path | None, *, wants_pem: bool) -> None:
    """Show the CA's certificates, newest first: what agents pin and clients trust."""
    from gpusched.api.ca import describe, trusted_by

    for certificate in trusted_by(_folder(home_of(home), folder)):
        click.echo(describe(certificate, wants_pem=wants_pem), nl=False)


@ca.command("rotate")
@home_option
@config_option
@dir_option
def rotate(home: Path | None, config: Path | None, folder: Path | None) -> None:
    """Give the CA a new key. A running head uses it at once; agents follow as they renew.

    What the key before signed stays good until the next rotation.
    """
    from gpusched.api.ca import at, rotate_ca
    from gpusched.daemon.clock import SystemClock
    from gpusched.daemon.config import find_config

    place = home_of(home)
    cluster = find_config(place, config).cluster
    fingerprint = rotate_ca(_folder(place, folder), cluster, at(SystemClock().now_us()))
    click.echo(f"CA of cluster {cluster} has a new key")
    click.echo(f"fingerprint {fingerprint}")


@ca.command("rotate-token-key")
@home_option
def rotate_token_key(home: Path | None) -> None:
    """Give the tokens of users and ranks a new signing key. A running head uses it at once.

    Tokens of the key before hold until they end, or until the next rotation.
    """
    from gpusched.api import token_keys
    from gpusched.daemon.head import TOKEN_KEY

    click.echo(f"tokens are signed by key {token_keys.rotate_token_key(home_of(home) / TOKEN_KEY)}")


@ca.command("revoke")
@click.argument("node")
@pass_session
def revoke(session: Session, node: str) -> None:
    """Make every certificate of NODE worthless, at once, on the running head."""
    held = session.client.members.revoke(NodeName(node))
    if not held:
        raise NotFound(
            f"node {node} has no certificate that is good: nothing to revoke; see `gpusched nodes`"
        )
    click.echo(f"Node {node}: {held} {'certificate' if held == 1 else 'certificates'} revoked")


def _folder(home: Path, given: Path | None) -> Path:
    from gpusched.api.ca import FOLDER

    return home / FOLDER if given is None else given
