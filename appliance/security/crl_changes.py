"""Taking in the revocation lists of external authorities. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from cryptography import x509
from msgspec.structs import replace

from appliance.errors import ChangeRefused
from appliance.security.certificate_facts import own_key_id
from appliance.security.credentials import Credentials, StoredCrl
from appliance.security.crl import Crl, accept, parse_crl
from appliance.security.stored_pair import certificate_of


def read_crl(data: bytes, authorities: Sequence[x509.Certificate], now: datetime) -> Crl | ChangeRefused:
    """The list in `data` (PEM or DER), signed by one of the trusted authorities, or why it cannot be taken.

    Blocks for up to seconds: call it in a thread.
    """
    try:
        return parse_crl(data, authorities, now)
    except ValueError as error:
        return ChangeRefused("invalid", str(error))


def import_crl(
    document: Credentials,
    data: bytes,
    crl: Crl | ChangeRefused,
    trusted: Collection[str],
    in_force: Mapping[str, Crl],
    now: datetime,
) -> tuple[Credentials, Crl]:
    """The list that `read_crl` found in `data`, in place of the one in force of its issuer. Raises ChangeRefused.

    trusted: the authorities' keys, by now. in_force: their lists so far, by the issuer's key.
    """
    if isinstance(crl, ChangeRefused):
        raise crl
    if crl.issuer_key_id not in trusted:
        raise ChangeRefused("conflict", "the revocation list's authority was trusted a moment ago and is not any more")
    if crl.issuer_key_id in {own_key_id(certificate_of(pair)) for pair in document.authorities["client"].trusted}:
        # It would count: a month later as one that has expired, by which every client of ours is refused.
        raise ChangeRefused(
            "invalid",
            "the revocation list is the appliance's own; what is revoked here counts at once, without a list",
        )
    try:
        accepted = accept(in_force.get(crl.issuer_key_id), crl)
    except ValueError as error:
        raise ChangeRefused("invalid", str(error)) from error
    others = tuple(known for known in document.crls if known.issuer_key_id != accepted.issuer_key_id)
    stored = StoredCrl(issuer_key_id=accepted.issuer_key_id, data=data, imported=now)
    return replace(document, crls=(*others, stored)), accepted
