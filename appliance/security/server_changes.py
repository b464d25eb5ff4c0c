"""Replacing the server certificate. Pure.

(made or imported) ──▶ staged ──tested──▶ active ──next one──▶ previous ──roll back──▶ active
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from appliance.errors import ChangeRefused
from appliance.security.certificate_facts import issuer_key_id, own_key_id
from appliance.security.credentials import Credentials, ServerCertificate, StoredPair
from appliance.security.external import Trust, check_imported_server_certificate, parse_chain, path_to_root
from appliance.security.private_keys import key_der, key_from_der, new_key
from appliance.security.signing_request import make_csr
from appliance.security.stored_pair import certificate_of


def stage_server(document: Credentials, pair: StoredPair) -> Credentials:
    """Keeps `pair` beside the active one; one that was staged before is replaced."""
    return replace(document, server=replace(document.server, staged=pair))


def activate_server(document: Credentials) -> Credentials:
    """The staged one becomes active, the active one previous. Raises ChangeRefused where none is, or of no use now."""
    server = document.server
    if server.staged is None:
        raise ChangeRefused("conflict", "no server certificate is staged; `appliance certs renew server` makes one")
    _refuse_retired(document, server.staged, "staged")
    return replace(
        document, server=ServerCertificate(active=server.staged, previous=server.active, requested=server.requested)
    )


def show_server(document: Credentials, pair: StoredPair) -> Credentials:
    """`pair` becomes active at once, the active one previous; what an administrator staged waits on."""
    server = document.server
    return replace(document, server=replace(server, active=pair, previous=server.active))


def roll_back_server(document: Credentials) -> Credentials:
    """The previous one becomes active again, the active one previous. Raises ChangeRefused as `activate_server`."""
    server = document.server
    if server.previous is None:
        raise ChangeRefused("conflict", "there is no previous server certificate to go back to")
    _refuse_retired(document, server.previous, "previous")
    return replace(document, server=replace(server, active=server.previous, previous=server.active))


def request_server(document: Credentials, names: Sequence[str]) -> tuple[Credentials, bytes]:
    """A new private key, kept until its certificate is imported, and the signing request (PEM) for a CA elsewhere."""
    key = new_key()
    document = replace(document, server=replace(document.server, requested=key_der(key)))
    return document, make_csr(key, names)


def import_server(
    document: Credentials, chain_pem: bytes, names: Sequence[str], trust: Trust, now: datetime
) -> Credentials:
    """Stages the certificate that a CA elsewhere made for the latest request. Raises ChangeRefused with every fault.

    trust: what the certificate's root must be among; where it is empty, the chain itself must end in a root. Stored is
    what the certificate hangs from and nothing else, its root last: clients get that to verify it with.
    """
    requested = document.server.requested
    if requested is None:
        raise ChangeRefused("conflict", "no signing request is open; `appliance certs csr` makes one")
    try:
        leaf, *intermediates = parse_chain(chain_pem)
        trusted = trust if trust.authorities else Trust(tuple(intermediates[-1:]), ())
        faults = check_imported_server_certificate(chain_pem, key_from_der(requested), names, trusted, now)
    except ValueError as error:
        raise ChangeRefused("invalid", str(error)) from error
    if faults:
        raise ChangeRefused("invalid", " ".join(faults))
    chain = tuple(link.public_bytes(Encoding.DER) for link in path_to_root(leaf, intermediates, trusted))
    pair = StoredPair(certificate=leaf.public_bytes(Encoding.DER), key=requested, chain=chain)
    staged = stage_server(document, pair)
    return replace(staged, server=replace(staged.server, requested=None))


def _refuse_retired(document: Credentials, pair: StoredPair, which: str) -> None:
    """Clients no longer get the root of a server authority whose rotation has ended. An imported one has a chain."""
    trusted = {own_key_id(certificate_of(authority)) for authority in document.authorities["server"].trusted}
    if not pair.chain and issuer_key_id(certificate_of(pair)) not in trusted:
        raise ChangeRefused(
            "conflict",
            f"the {which} server certificate is of a server CA that was replaced, and clients no longer trust that; "
            "`appliance certs renew server` makes another one",
        )
