"""Reads Slurm's descriptions of the fabric: ``topology.conf`` and ``topology.yaml``.

Facts from Slurm's manual pages topology.conf(5) and topology.yaml(5): ``SwitchName`` with ``Switches``
or ``Nodes`` (plugin topology/tree), ``BlockName`` with ``Nodes`` (topology/block); host lists; ``#``
begins a comment; ``\\`` at the end of a line continues it. ``LinkSpeed`` is in units of the site's
own, so only ``[[topology.level]]`` gives bandwidths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from gpusched.domain.errors import ConfigInvalid, InvalidSpec
from gpusched.domain.hostlist import expand_hostlist
from gpusched.domain.ids import NodeName
from gpusched.domain.topology import LEVELS_MAX, Topology, TopologyDomain, TopologyLevel, build_topology

FILE_BYTES_MAX = 16 << 20
BLOCK = "block"
LEVEL_NAMES = ("leaf", "spine", "core")
"""What switches are called by their height; above these ``level4`` and so on."""
_WORD = re.compile(r"(\w+)=(\S+)")
_SWITCH_KEYS = {"switchname", "switches", "nodes", "linkspeed"}
_BLOCK_KEYS = {"blockname", "nodes"}


@dataclass(frozen=True, slots=True)
class _Switch:
    """One switch or block as a file names it."""

    name: str
    where: str  # for messages: file and line
    switches: tuple[str, ...] = ()
    nodes: tuple[NodeName, ...] = ()


def read_slurm_topology(path: Path, bandwidths: Mapping[str, float]) -> Topology:
    """Read either file; which one, its name's ending says.

    Args:
        path: ``*.yaml`` and ``*.yml`` are read as ``topology.yaml``, anything else as ``topology.conf``.
        bandwidths: MB/s of levels, by name.

    Raises:
        ConfigInvalid: The file can't be read or makes no tree; names it, the line if it can, and the fault.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigInvalid(f"{path}: larger than {FILE_BYTES_MAX} bytes: name a topology file")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}: name a readable topology file") from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{path}: not UTF-8 text: name a topology file") from error
    is_yaml = path.suffix in (".yaml", ".yml")
    switches, blocks = _from_yaml(path, text) if is_yaml else _from_conf(path, text)
    if blocks and switches:
        raise ConfigInvalid(f"{path}: has both switches and blocks: keep one of the two")
    if not blocks and not switches:
        raise ConfigInvalid(f"{path}: names no switch and no block: name a topology file")
    domains = _block_domains(blocks) if blocks else _switch_domains(switches)
    names = sorted({domain.level for domain in domains}, key=_height, reverse=True)
    if unknown := sorted(set(bandwidths) - set(names)):
        raise ConfigInvalid(f"{path}: has no level {unknown[0]}: it has {', '.join(names)}")
    return build_topology([TopologyLevel(name, bandwidths.get(name)) for name in names], domains)


def _from_conf(path: Path, text: str) -> tuple[list[_Switch], list[_Switch]]:
    switches, blocks = [], []
    for number, line in _logical_lines(text):
        where = f"{path}:{number}"
        words = {key.lower(): value for key, value in _WORD.findall(line)}
        if "switchname" in words:
            _check_keys(where, words, _SWITCH_KEYS)
            switches += [
                _Switch(name, where, _names(where, words.get("switches")), _names(where, words.get("nodes")))
                for name in _names(where, words["switchname"])
            ]
        elif "blockname" in words:
            _check_keys(where, words, _BLOCK_KEYS)
            blocks.append(_Switch(words["blockname"], where, nodes=_names(where, words.get("nodes"))))
        elif "blocksizes" not in words:
            raise ConfigInvalid(f"{where}: begins with none of SwitchName, BlockName, BlockSizes: correct it")
    return switches, blocks


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments and with their continuations, each with the number of its first."""
    whole, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.split("#", 1)[0].strip()
        first = first or number
        whole = f"{whole} {bare.removesuffix(chr(92))}".strip()
        if not bare.endswith(chr(92)):
            if whole:
                yield first, whole
            whole, first = "", 0
    if whole:
        yield first, whole


def _check_keys(where: str, words: Mapping[str, str], known: set[str]) -> None:
    if unknown := sorted(set(words) - known):
        raise ConfigInvalid(f"{where}: unknown key {unknown[0]}: remove it")


def _names(where: str, text: object) -> tuple[NodeName, ...]:
    if text is None:
        return ()
    try:
        return expand_hostlist(str(text))
    except InvalidSpec as error:
        raise ConfigInvalid(f"{where}: {error}") from error


def _from_yaml(path: Path, text: str) -> tuple[list[_Switch], list[_Switch]]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigInvalid(f"{path}: not YAML: {error}") from error
    found = content if isinstance(content, list) else []
    tables = [entry for entry in found if isinstance(entry, dict)]
    wanted = [entry for entry in tables if entry.get("cluster_default")] or tables[:1]
    if not wanted:
        raise ConfigInvalid(f"{path}: not a list of topologies: see topology.yaml(5)")
    tree, block = wanted[0].get("tree"), wanted[0].get("block")
    switches = _entries(path, tree, "switches", "switch")
    return switches, _entries(path, block, "blocks", "block")


def _entries(path: Path, table: object, listed: str, named: str) -> list[_Switch]:
    rows = table.get(listed) if isinstance(table, dict) else None
    found = []
    for number, row in enumerate(rows or (), 1):
        where = f"{path}: {listed}[{number}]"
        if not isinstance(row, dict) or not isinstance(row.get(named), str):
            raise ConfigInvalid(f"{where}: has no {named} name: add it")
        found.append(
            _Switch(row[named], where, _names(where, row.get("children")), _names(where, row.get("nodes")))
        )
    return found


def _block_domains(blocks: Sequence[_Switch]) -> list[TopologyDomain]:
    return [TopologyDomain(block.name, BLOCK, nodes=block.nodes) for block in blocks]


def _switch_domains(switches: Sequence[_Switch]) -> list[TopologyDomain]:
    """A switch's level is its height above the nodes, as Slurm counts it."""
    known: dict[str, _Switch] = {}
    parents: dict[str, str] = {}
    for switch in switches:
        if switch.name in known:
            raise ConfigInvalid(f"{switch.where}: two switches are named {switch.name}: rename one")
        known[switch.name] = switch
        for child in switch.switches:
            if child in parents:
                raise ConfigInvalid(f"{switch.where}: switch {child} is under {parents[child]} too: keep one")
            parents[child] = switch.name
    for switch in switches:
        if missing := [child for child in switch.switches if child not in known]:
            raise ConfigInvalid(f"{switch.where}: switch {missing[0]} is described nowhere: add its line")
    heights = _heights(known)
    return [
        TopologyDomain(switch.name, _level(heights[switch.name]), parents.get(switch.name), switch.nodes)
        for switch in switches
    ]


def _heights(known: Mapping[str, _Switch]) -> dict[str, int]:
    heights = {name: 0 for name, switch in known.items() if not switch.switches}
    while len(heights) < len(known):
        ready = {
            name: 1 + max(heights[child] for child in switch.switches)
            for name, switch in known.items()
            if name not in heights and all(child in heights for child in switch.switches)
        }
        if not ready:
            name = min(set(known) - set(heights))
            raise ConfigInvalid(
                f"{known[name].where}: switch {name} is under itself: take it out of the circle"
            )
        heights |= ready
    return heights


def _level(height: int) -> str:
    if height >= LEVELS_MAX:
        raise ConfigInvalid(f"topology: switches are {height + 1} high, the limit is {LEVELS_MAX}")
    return LEVEL_NAMES[height] if height < len(LEVEL_NAMES) else f"level{height + 1}"


def _height(level: str) -> int:
    if level in LEVEL_NAMES:
        return LEVEL_NAMES.index(level)
    return 0 if level == BLOCK else int(level.removeprefix("level")) - 1
