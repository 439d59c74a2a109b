"""The live store's own past as a scenario: jobs as they were submitted, nodes as they came and went.

Read through the store's reader, beside a head that runs. A job lasts as long as its last attempt held its
devices; one that still runs, as long as it has so far; one that never ran is left out, and so are holds.
Nodes have the devices that they reported last; when they joined, fell silent and came back is replayed,
cordons and drains are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gpusched.daemon.scenario import NamedArrival, Scenario
from gpusched.domain.errors import NotFound
from gpusched.domain.identity import Principal, Role
from gpusched.domain.ids import NodeName
from gpusched.domain.job import Job, JobFilter
from gpusched.domain.node import NodeFacts
from gpusched.domain.usage import NodeSpan
from gpusched.engine.core import EngineSettings
from gpusched.engine.inputs import NodeConnected, NodeHeard, NodeSilent
from gpusched.engine.simulation import Arrival, Happening
from gpusched.store.reader import Reader

_PAGE = 1_000


def read_history(reader: Reader, settings: EngineSettings, since_us: int, until_us: int) -> Scenario:
    """Read the jobs submitted in [``since_us``, ``until_us``), and the nodes of that time.

    Raises:
        NotFound: No such job ever ran.
        StoreUnavailable: The database does not answer.
    """
    jobs = [
        NamedArrival(str(job.job_id), arrival)
        for job in _jobs(reader, since_us, until_us)
        if (arrival := _arrival(job, until_us)) is not None
    ]
    if not jobs:
        raise NotFound("no job of that time ever ran: give other times with --since and --until")
    jobs.sort(key=lambda each: each.arrival.at_us)
    first_us = jobs[0].arrival.at_us
    facts = {node.name: node.facts for node in reader.nodes()}
    there: list[NodeFacts] = []
    happenings: list[Happening] = []
    for node, spans in _spans_by_node(reader.node_spans(first_us, until_us)):
        if spans[0].start_us <= first_us:
            there.append(facts[node])
        else:
            happenings.append(Happening(spans[0].start_us, NodeConnected(facts[node], ())))
        happenings.extend(_comings_and_goings(spans, first_us))
    return Scenario(nodes=tuple(there), jobs=tuple(jobs), happenings=tuple(happenings), settings=settings)


def _jobs(reader: Reader, since_us: int, until_us: int) -> Iterator[Job]:
    page = reader.jobs(JobFilter(), _PAGE)
    while page:
        yield from (job for job in page if since_us <= job.submitted_at_us < until_us)
        page = reader.jobs(JobFilter(), _PAGE, before=page[-1].job_id)


def _arrival(job: Job, until_us: int) -> Arrival | None:
    if job.attempt is None:
        return None
    start_us = job.attempt.allocation.granted_at_us
    end_us = until_us if job.ended_at_us is None else job.ended_at_us
    return Arrival(
        at_us=job.submitted_at_us,
        who=Principal(job.owner, frozenset({Role.USER})),
        spec=replace(job.spec, hold=False),
        run_us=max(0, end_us - start_us),
    )


def _spans_by_node(spans: tuple[NodeSpan, ...]) -> Iterator[tuple[NodeName, list[NodeSpan]]]:
    found: dict[NodeName, list[NodeSpan]] = {}
    for span in spans:
        found.setdefault(span.node, []).append(span)
    yield from found.items()


def _comings_and_goings(spans: list[NodeSpan], first_us: int) -> Iterator[Happening]:
    was_up = True
    for span in spans:
        at_us = max(first_us, span.start_us)
        if was_up and not span.is_up:
            yield Happening(at_us, NodeSilent(span.node, 0.0))
        elif span.is_up and not was_up:
            yield Happening(at_us, NodeHeard(span.node))
        was_up = span.is_up
