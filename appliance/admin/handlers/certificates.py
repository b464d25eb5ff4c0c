"""Certificates: the server's, those of clients and administrators, the authorities, revocation lists."""

from __future__ import annotations

import asyncio
import functools
from datetime import datetime, timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct

from appliance.admin.route import Answer, Call
from appliance.errors import ChangeRefused
from appliance.security.access_view import client_authorities
from appliance.security.ca_changes import (
    STRAGGLER_AGE,
    finalize_rotation,
    issue_from_successor,
    roll_back,
    start_rotation,
)
from appliance.security.certificate_facts import CertificateFacts, own_key_id
from appliance.security.client_bundle import issue_certificate
from appliance.security.credentials import AUTHORITIES, AuthorityName, CaPhase, Credentials, Issued, StoredPair
from appliance.security.crl import Crl, make_crl
from appliance.security.crl_changes import import_crl, read_crl
from appliance.security.issuing import make_authority, make_server, trust_pem
from appliance.security.revocations import certificate_named, revoke
from appliance.security.server_changes import (
    activate_server,
    import_server,
    request_server,
    roll_back_server,
    show_server,
    stage_server,
)
from appliance.security.stored_pair import certificate_of, load_pair
from appliance.security.tls import server_context

CRL_LIFE = timedelta(days=30)

Text = Annotated[str, Meta(max_length=256)]
Pem = Annotated[str, Meta(max_length=16 * 2**20)]


class Renew(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """stage_only: keep it beside the active one, to be activated later."""

    stage_only: bool = False


class Import(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """chain: PEM, the server's certificate first, then its intermediates, and its root where none is configured."""

    chain: Pem
    stage_only: bool = False


class RevokeCertificate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """certificate: serial number or fingerprint, or the beginning of one; `<issuer key id>:<serial>` of any issuer."""

    certificate: Annotated[str, Meta(min_length=8, max_length=128)]
    reason: Text = ""


class IssueCertificate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """kind: `admin` for the remote admin port. csr: PEM; then the holder keeps the private key to themselves."""

    name: Text
    kind: Literal["client", "admin"] = "client"
    csr: Annotated[str, Meta(max_length=16384)] | None = None


class RotateAuthority(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """step: what to do next. force: finalise although somebody would be locked out."""

    step: Literal["start", "issue", "finalize", "rollback"]
    force: bool = False


class ImportCrl(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """crl: PEM."""

    crl: Pem


class AuthorityView(Struct, frozen=True, kw_only=True):
    """stragglers: who showed a certificate of the authority that is to go, in the last seven days."""

    name: AuthorityName
    phase: CaPhase
    since: datetime
    current: CertificateFacts
    successor: CertificateFacts | None
    stragglers: list[str]


class ServerView(Struct, frozen=True, kw_only=True):
    """The server certificate's places. requested: a signing request waits for its certificate."""

    active: CertificateFacts
    staged: CertificateFacts | None
    previous: CertificateFacts | None
    requested: bool


class IssuedView(Struct, frozen=True, kw_only=True):
    """A certificate signed here."""

    kind: Literal["client", "admin"]
    name: str
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    state: Literal["valid", "expired", "revoked", "untrusted"]


class CrlView(Struct, frozen=True, kw_only=True):
    """A revocation list in force."""

    issuer_key_id: str
    number: int
    this_update: datetime
    next_update: datetime
    entries: int


async def show(call: Call) -> Answer:
    """Everything about certificates."""
    view = call.office.access.view
    document, now = view.document, call.office.now()
    return call.answer(
        {
            "server": _server(document),
            "authorities": [_authority(call, document, name) for name in AUTHORITIES],
            "trusted": [CertificateFacts.of(authority) for authority in view.configured.trust.authorities],
            "issued": [_issued(call, issued, now) for issued in document.issued],
            "crls": [_crl(crl) for crl in view.crls.values()],
        }
    )


async def renew_server(call: Call) -> Answer:
    """A new server certificate, tested and then shown to every new connection."""
    asked, names = call.parsed(Renew), call.office.access.view.configured.names

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        staged = stage_server(document, make_server(document, call.office.profiles, names, now))
        _test_staged(call, staged)
        return (staged if asked.stage_only else activate_server(staged)), None

    change = await call.change("server", transition, action="server.stage" if asked.stage_only else None)
    return Answer(_server(call.office.document), change.generation)


async def activate(call: Call) -> Answer:
    """Shows the staged certificate from now on."""

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        activated = activate_server(document)
        _test(call, activated.server.active)
        return activated, None

    change = await call.change("server", transition)
    return Answer(_server(call.office.document), change.generation)


async def rollback_server(call: Call) -> Answer:
    """Back to the previous certificate."""

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        before = roll_back_server(document)
        _test(call, before.server.active)
        return before, None

    change = await call.change("server", transition)
    return Answer(_server(call.office.document), change.generation)


async def request(call: Call) -> Answer:
    """A signing request for a CA elsewhere; its private key stays here."""
    names = call.office.access.view.configured.own_names
    if not names:
        raise ChangeRefused(
            "invalid", "say what clients call this host first: listeners.<name>.names in appliance.yaml"
        )
    change = await call.change("server", lambda document, now: request_server(document, names))
    return Answer({"csr": change.result.decode(), "names": names}, change.generation)


async def import_chain(call: Call) -> Answer:
    """The certificate that was made for the request."""
    asked, configured = call.parsed(Import), call.office.access.view.configured

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        staged = import_server(document, asked.chain.encode(), configured.own_names, configured.trust, now)
        _test_staged(call, staged)
        return (staged if asked.stage_only else activate_server(staged)), None

    change = await call.change("server", transition)
    return Answer(_server(call.office.document), change.generation)


async def issue(call: Call) -> Answer:
    """A certificate without an API key: for an administrator, or for a client of a listener that asks for no key.

    A client that is not known yet becomes one.
    """
    asked = call.parsed(IssueCertificate)

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, dict[str, str]]:
        csr = None if asked.csr is None else asked.csr.encode()
        document, files = issue_certificate(document, call.office.profiles, asked.kind, asked.name, now, csr=csr)
        return document, {name: text.decode() for name, text in files.items()}

    change = await call.change(asked.name, transition, details={"kind": asked.kind})
    return Answer({"name": asked.name, "files": {} if call.plan else change.result}, change.generation)


async def revoke_certificate(call: Call) -> Answer:
    """Refuses one certificate, and ends its connections."""
    asked, by = call.parsed(RevokeCertificate), call.administrator.name

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, tuple[str, str]]:
        reference, name = certificate_named(document, asked.certificate)
        return revoke(document, "certificate", reference, now, by=by, reason=asked.reason), (reference, name)

    change = await call.change(asked.certificate, transition, details={"why": asked.reason})
    reference, name = change.result
    body = {"name": name, "serial": reference.partition(":")[2], "state": "revoked", "cut": change.cut}
    return Answer(body, change.generation)


async def rotate_authority(call: Call) -> Answer:
    """One step of replacing an authority."""
    asked, name = call.parsed(RotateAuthority), _authority_name(call)
    profiles, names = call.office.profiles, call.office.access.view.configured.names

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, list[str]]:
        stragglers = _stragglers(call, document, name)
        match asked.step:
            case "start":
                successor = make_authority(profiles, name, document.appliance_id, now)
                return start_rotation(document, name, successor, now), stragglers
            case "issue":
                document = issue_from_successor(document, name, now)
                if name == "server":
                    document = show_server(document, make_server(document, profiles, names, now))
                return document, stragglers
            case "finalize":
                return finalize_rotation(document, name, stragglers, now, force=asked.force), stragglers
            case "rollback":
                document = roll_back(document, name, now)
                if name == "server":
                    document = show_server(document, make_server(document, profiles, names, now))
                return document, []

    change = await call.change(name, transition, action=f"authority.{asked.step}")
    phase = call.office.document.authorities[name].phase
    body = {"name": name, "phase": phase, "stragglers": change.result, "cut": change.cut}
    return Answer(body, change.generation)


async def trust(call: Call) -> Answer:
    """The certificates of one authority as text: what the other side must trust."""
    return call.answer({"pem": trust_pem(call.office.document, _authority_name(call)).decode()})


async def take_crl(call: Call) -> Answer:
    """The revocation list of an external authority."""
    data, office = call.parsed(ImportCrl).crl.encode(), call.office
    authorities = client_authorities(office.access.view.configured, office.document)
    crl = await office.compute(functools.partial(read_crl, data, authorities, office.now()))

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, Crl]:
        # Of this moment: another list may have come while this one was read.
        view = office.access.view
        return import_crl(document, data, crl, view.issuers, view.crls, now)

    change = await call.change("crl", transition)
    return Answer({"crl": _crl(change.result), "cut": change.cut}, change.generation)


async def give_crl(call: Call) -> Answer:
    """Our own client authority's revocation list, for proxies that check certificates in front of us.

    While the authority rotates there is one of each that is trusted, one after the other.
    """
    return call.answer(await asyncio.to_thread(_own_crls, call.office.document, call.office.now()))


def _own_crls(document: Credentials, now: datetime) -> dict[str, object]:
    """Blocks for 15 µs a revocation."""
    named = {known.value: known.time for known in document.revocations if known.kind == "certificate"}
    # A proxy knows certificates only: those of a client that is refused as a whole are listed one by one.
    clients = {known.value: known.time for known in document.revocations if known.kind == "principal"}
    named |= {
        issued.reference: clients[issued.name]
        for issued in document.issued
        if issued.kind == "client" and issued.name in clients and issued.reference not in named
    }
    lists, entries = [], 0
    for pair in document.authorities["client"].trusted:
        authority = load_pair(pair)
        prefix = own_key_id(authority.certificate) + ":"
        revoked = {
            int(reference.removeprefix(prefix), 16): time
            for reference, time in named.items()
            if reference.startswith(prefix)
        }
        lists.append(make_crl(authority, revoked, document.generation, now, now + CRL_LIFE).decode())
        entries += len(revoked)
    return {"pem": "".join(lists), "entries": entries}


def _test_staged(call: Call, document: Credentials) -> None:
    assert document.server.staged is not None
    _test(call, document.server.staged)


def _test(call: Call, pair: StoredPair) -> None:
    """Raises StateError where no TLS handshake succeeds with it."""
    server_context(pair, call.office.access.view.configured.names_of(pair), None)


def _authority_name(call: Call) -> AuthorityName:
    for name in AUTHORITIES:
        if name == call.match["name"]:
            return name
    raise ChangeRefused("not_found", f"there is no authority {call.match['name']!r}; known: {', '.join(AUTHORITIES)}")


def _stragglers(call: Call, document: Credentials, name: AuthorityName) -> list[str]:
    authority = document.authorities[name]
    if name == "server" or authority.successor is None:
        return []
    since = call.office.now() - STRAGGLER_AGE
    return call.office.seen.principals_of(own_key_id(certificate_of(authority.current)), since)


def _authority(call: Call, document: Credentials, name: AuthorityName) -> AuthorityView:
    authority = document.authorities[name]
    successor = authority.successor
    return AuthorityView(
        name=name,
        phase=authority.phase,
        since=authority.since,
        current=CertificateFacts.of(certificate_of(authority.current)),
        successor=None if successor is None else CertificateFacts.of(certificate_of(successor)),
        stragglers=_stragglers(call, document, name),
    )


def _server(document: Credentials) -> ServerView:
    server = document.server

    def facts(pair: StoredPair | None) -> CertificateFacts | None:
        return None if pair is None else CertificateFacts.of(certificate_of(pair))

    return ServerView(
        active=CertificateFacts.of(certificate_of(server.active)),
        staged=facts(server.staged),
        previous=facts(server.previous),
        requested=server.requested is not None,
    )


def _issued(call: Call, issued: Issued, now: datetime) -> IssuedView:
    view = call.office.access.view
    trusted = view.issuers if issued.kind == "client" else view.admin_issuers
    state: Literal["valid", "expired", "revoked", "untrusted"] = "valid"
    if issued.reference in view.revocations.certificates:
        state = "revoked"
    elif issued.not_after < now:
        state = "expired"
    elif issued.issuer_key_id not in trusted:
        state = "untrusted"
    return IssuedView(
        kind=issued.kind,
        name=issued.name,
        serial=issued.serial,
        fingerprint=issued.fingerprint,
        not_before=issued.not_before,
        not_after=issued.not_after,
        state=state,
    )


def _crl(crl: Crl) -> CrlView:
    return CrlView(
        issuer_key_id=crl.issuer_key_id,
        number=crl.number,
        this_update=crl.this_update,
        next_update=crl.next_update,
        entries=len(crl.serials),
    )
