"""Licences: counted for the cluster as a whole, so no node can help where there are too few."""

from __future__ import annotations

from gpusched.domain.errors import InfeasibleRequest
from gpusched.domain.job_spec import JobSpec
from gpusched.placement.inventory import Inventory
from gpusched.placement.snapshot import ClusterSnapshot


def check_licenses(inventory: Inventory, spec: JobSpec) -> None:
    """Accept what the cluster has enough licences for, were none held.

    Raises:
        InfeasibleRequest: It has not; names the licence and how many there are.
    """
    for name, count in spec.licenses:
        total = inventory.licenses.get(name)
        if total is None:
            known = ", ".join(sorted(inventory.licenses)) or "none at all"
            raise InfeasibleRequest(f"there is no licence {name}: the cluster has {known}")
        if count > total:
            raise InfeasibleRequest(
                f"job wants {count} of licence {name}; the cluster has {total}: ask for licenses ≤ {total}"
            )


def say_short_licenses(snapshot: ClusterSnapshot, spec: JobSpec) -> str:
    """Write "licence matlab: 8 of 10 held, job wants 4", for each that is too short now; "" if none is."""
    totals = snapshot.inventory.licenses
    return "; ".join(
        f"licence {name}: {totals.get(name, 0) - free} of {totals.get(name, 0)} held, job wants {count}"
        for name, count in spec.licenses
        if (free := snapshot.licenses_free.get(name, 0)) < count
    )
