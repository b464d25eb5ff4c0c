"""The first document of a new appliance: authorities, server certificate, pepper, seal key. Pure but for randomness."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime

from appliance.security.certificates import issue_server
from appliance.security.credentials import AUTHORITIES, Authority, Credentials, Pepper, ServerCertificate
from appliance.security.issuing import make_authority
from appliance.security.profiles import Profiles
from appliance.security.stored_pair import load_pair, store_pair

PEPPER_BYTES = 32


def found(profiles: Profiles, names: Sequence[str], seal_key: bytes, now: datetime) -> Credentials:
    """Generation 1. names: what the server certificate must cover."""
    appliance_id = secrets.token_hex(8)
    authorities = {
        name: Authority(current=make_authority(profiles, name, appliance_id, now), since=now) for name in AUTHORITIES
    }
    server = issue_server(load_pair(authorities["server"].current), names, profiles.server, now)
    return Credentials(
        generation=1,
        appliance_id=appliance_id,
        peppers=(Pepper(id=1, secret=secrets.token_bytes(PEPPER_BYTES), created=now),),
        authorities=authorities,
        server=ServerCertificate(active=store_pair(server)),
        seal_keys=(seal_key,),
    )
