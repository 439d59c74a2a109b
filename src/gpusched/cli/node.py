"""``gpusched node``: look at nodes; take them out of service and back."""

from __future__ import annotations

import hashlib
import secrets

import click

from gpusched.cli.as_json import node_json, plain
from gpusched.cli.health import tell_if_suspended
from gpusched.cli.node_view import links_table, nodes_table, print_node
from gpusched.cli.quantities import parse_duration, show_duration
from gpusched.cli.screen import note, print_json, print_line, print_table
from gpusched.cli.session import Parsed, Session, json_option, pass_session
from gpusched.domain.ids import NodeName


@click.group()
def node() -> None:
    """Look at nodes; take them out of service and back."""


@node.command("list")
@json_option
@pass_session
def list_nodes(session: Session, *, as_json: bool) -> None:
    """List all nodes."""
    views = sorted(session.client.nodes.list(), key=lambda view: view.node.name)
    if as_json:
        print_json([node_json(view) for view in views])
    else:
        tell_if_suspended(views)
        print_table(nodes_table(views))


@node.command("show")
@click.argument("name")
@json_option
@pass_session
def show(session: Session, *, name: str, as_json: bool) -> None:
    """Show one node: state, devices, what runs there."""
    view = session.client.nodes.get(NodeName(name))
    if as_json:
        print_json(node_json(view))
    else:
        print_node(view, session.now_us())


@node.command("cordon")
@click.argument("name")
@click.option("-m", "--reason", required=True, help="Why; shown to everybody who looks.")
@pass_session
def cordon(session: Session, *, name: str, reason: str) -> None:
    """Give a node no new work; what runs there goes on (Slurm's DRAIN)."""
    session.client.nodes.cordon(NodeName(name), reason)
    print_line(f"Node {name} cordoned")


@node.command("drain")
@click.argument("name")
@click.option("-m", "--reason", required=True, help="Why; shown to everybody who looks.")
@click.option(
    "--deadline", "deadline_s", type=Parsed("TIME", parse_duration), help="End what is left after: 30m, 2h."
)
@pass_session
def drain(session: Session, *, name: str, reason: str, deadline_s: int | None) -> None:
    """Cordon a node and wait for its jobs; at the deadline those that are left are ended."""
    session.client.nodes.drain(NodeName(name), reason, deadline_s)
    until = "" if deadline_s is None else f"; what is left in {show_duration(deadline_s)} is ended"
    print_line(f"Node {name} is draining{until}")


@node.command("resume")
@click.argument("name")
@pass_session
def resume(session: Session, *, name: str) -> None:
    """Open a node for work again."""
    session.client.nodes.resume(NodeName(name))
    print_line(f"Node {name} resumed")


@node.command("join-token")
@click.option("--node", "name", help="Good for this node alone. [default: for any node that is no member]")
@click.option(
    "--ttl",
    "lifetime_s",
    type=Parsed("TIME", parse_duration),
    default="1h",
    show_default=True,
    help="How long it is good for: 30m, 2h.",
)
@json_option
@pass_session
def join_token(session: Session, *, name: str | None, lifetime_s: int, as_json: bool) -> None:
    """Make a token that lets one node in, once. The head keeps a digest of it: this is its only copy.

    \b
    Example:
        gpusched node join-token --node n7 > n7.token
        gpusched agent --name n7 --head head1:7460 --join n7.token --ca-fingerprint sha256:...
    """
    token = f"gpj-{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(token.encode()).digest()
    made = session.client.members.create_join_token(
        digest, None if name is None else NodeName(name), lifetime_s
    )
    if as_json:
        print_json({"token": token, "node": name, **plain(made)})
        return
    print_line(token)
    note(f"good once, for {name or 'any node that is no member'}, for {show_duration(lifetime_s)}")
    note(f"on the node: gpusched agent --name {name or 'NAME'} --head HOST:PORT --join FILE \\")
    note(f"    --ca-fingerprint {made.ca_fingerprint}")


@node.command("topology")
@click.argument("name", required=False)
@json_option
@pass_session
def topology(session: Session, *, name: str | None, as_json: bool) -> None:
    """Show how the GPUs of one node, or of all, reach each other."""
    found = list(session.client.nodes.topology(None if name is None else NodeName(name)))
    if as_json:
        print_json(plain(found))
        return
    for facts in sorted(found, key=lambda facts: facts.name):
        print_line((facts.name, "bold"))
        if facts.devices:
            print_table(links_table(facts))
        else:
            print_line("no GPUs")
