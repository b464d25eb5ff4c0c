"""Taking in the revocation lists of external authorities. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from cryptography import x509
from msgspec.structs import replace

from appliance.errors import ChangeRefused
from appliance.security.credentials import Credentials, StoredCrl
from appliance.security.crl import Crl, accept, parse_crl


def import_crl(
    document: Credentials,
    data: bytes,
    authorities: Sequence[x509.Certificate],
    in_force: Mapping[str, Crl],
    now: datetime,
) -> tuple[Credentials, Crl]:
    """The list in `data` (PEM or DER) in place of the one in force of its issuer. Raises ChangeRefused.

    authorities: those who are trusted. in_force: their lists so far, by the issuer's key.
    """
    try:
        crl = parse_crl(data, authorities, now)
        accepted = accept(in_force.get(crl.issuer_key_id), crl)
    except ValueError as error:
        raise ChangeRefused("invalid", str(error)) from error
    others = tuple(known for known in document.crls if known.issuer_key_id != accepted.issuer_key_id)
    stored = StoredCrl(issuer_key_id=accepted.issuer_key_id, data=data, imported=now)
    return replace(document, crls=(*others, stored)), accepted
