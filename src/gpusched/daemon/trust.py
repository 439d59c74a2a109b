"""By what a head is known to clients and agents: its keys must be those of the head that it stands by for."""

from __future__ import annotations

import json

from gpusched.api.ca import CertificateAuthority
from gpusched.api.token_keys import TokenKeys

NONE = "none"
_NAMES = {"cluster": "cluster in config.toml", "token_key": "token.key", "ca": "ca"}


def trust_of(cluster: str, keys: TokenKeys, ca: CertificateAuthority | None) -> str:
    """The names of what signs, as one text: no secret, and equal for heads that stand for each other."""
    fingerprint = NONE if ca is None else ca.fingerprint
    return json.dumps({"cluster": cluster, "token_key": keys.ring().key_id, "ca": fingerprint})


def why_unfit(ours: str, leaders: str | None, leader: str | None) -> str | None:
    """What keeps a head from standing by for the one at ``leader``; None: nothing, or it does not say."""
    if leaders is None or leaders == ours:
        return None
    here, there = json.loads(ours), json.loads(leaders)
    different = [
        f"{name} ({here.get(key)} here, {there.get(key)} there)"
        for key, name in _NAMES.items()
        if here.get(key) != there.get(key)
    ]
    if not different:
        return None
    return (
        f"this head and the one that leads at {leader} differ in {', '.join(different)}: it would refuse the "
        "tokens and certificates of the other. Copy token.key* and ca from that one's home into this one's, "
        "mode 0600 (docs/operations/failover.md)"
    )
