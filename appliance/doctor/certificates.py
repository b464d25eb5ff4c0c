"""Verdicts on certificates: how long they last, what they name, whether they lead to an authority of ours. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509

from appliance.doctor.verdict import Verdict, error, fine, warning
from appliance.security.certificate_names import server_names_of
from appliance.security.credentials import Credentials, StoredPair
from appliance.security.stored_pair import certificate_of
from appliance.security.upkeep import alarms

_ERROR_DAYS: Final = 1


def certificate_verdicts(
    document: Credentials, names: Iterable[str], elsewhere: Sequence[x509.Certificate], now: datetime
) -> list[Verdict]:
    """names: what the server certificate must cover. elsewhere: authorities that appliance.yaml trusts."""
    active = document.server.active
    ours = [certificate_of(pair) for pair in document.authorities["server"].trusted]
    found = [_names_verdict(active, frozenset(names)), _chain_verdict(active, [*ours, *elsewhere])]
    found += [_ending(alarm.what, alarm.not_after, alarm.days) for alarm in alarms(document, now)]
    if len(found) == 2:
        until = certificate_of(active).not_valid_after_utc
        found.append(fine("certificates", f"nothing ends soon; the server certificate is good until {until:%Y-%m-%d}"))
    return found


def _names_verdict(active: StoredPair, names: frozenset[str]) -> Verdict:
    has = server_names_of(certificate_of(active))
    if missing := sorted(names - has):
        return error(
            "certificates",
            f"the server certificate does not name {', '.join(missing)}: clients that use that refuse it",
            "`appliance certs renew server`, or `appliance certs csr` where another CA issues it",
        )
    return fine("certificates", f"the server certificate names {', '.join(sorted(has))}")


def _chain_verdict(active: StoredPair, authorities: Sequence[x509.Certificate]) -> Verdict:
    """Each certificate is signed by the next, and the last one by an authority that is known here."""
    chain = [certificate_of(active), *(x509.load_der_x509_certificate(der) for der in active.chain)]
    for signed, issuer in itertools.pairwise(chain):
        if not _signed_by(signed, issuer):
            return error(
                "certificates",
                f"the chain is broken: {_name(signed)} is not signed by {_name(issuer)}",
                "import the chain anew, the server's certificate first: `appliance certs import`",
            )
    if any(chain[-1] == known or _signed_by(chain[-1], known) for known in authorities):
        return fine("certificates", "the server certificate's chain leads to an authority that is known here")
    return error(
        "certificates",
        f"nobody here knows who signed {_name(chain[-1])}",
        "name that authority in certificates.trust, or `appliance certs renew server`",
    )


def _ending(what: str, not_after: datetime, days: int) -> Verdict:
    moment = f"{not_after:%Y-%m-%d %H:%M} UTC"
    remedy = "`appliance certs list` and `appliance keys list` show it; renew or rotate it"
    if days == 0:
        return error("certificates", f"{what} has ended on {moment}", remedy)
    found = f"{what} ends on {moment}"
    return error("certificates", found, remedy) if days <= _ERROR_DAYS else warning("certificates", found, remedy)


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:
        # Signature, names and kinds of key each have an exception of their own, not all of them documented.
        return False
    return True


def _name(certificate: x509.Certificate) -> str:
    try:
        return repr(certificate.subject.rfc4514_string()[:128])
    except ValueError:
        return "a certificate without a readable name"
