"""API keys, clients and certificates. Pure."""

from __future__ import annotations

from typing import Any, Final

from appliance.admin_client import route
from tui.admin_data import ApiKeyRow, Issued
from tui.proposals.proposal import REASON, Field, Proposal
from tui.sentence import Sentence, sentence

_NAME: Final = "Name of the client:"


def new_key(principal: str) -> Proposal:
    """A further key of a client that is known."""
    return Proposal(
        title="NEW API KEY",
        verb="Make it",
        action="key.create",
        resource=principal or "-",
        role="security",
        path="/keys",
        command=lambda values: ("keys", "add", values["principal"], *_given("--label", values["label"])),
        facts=(sentence("The key is shown once. Nobody can read it again."),),
        fields=(Field("principal", _NAME, principal, required=True), Field("label", "Label:")),
        body=lambda values: {"principal": values["principal"], "label": values["label"]},
        planned=None,
        done=lambda answer: (sentence("key {kid} of {client}", kid=answer["kid"], client=answer["principal"]),),
        secrets=("key",),
    )


def rotate_key(key: ApiKeyRow) -> Proposal:
    """A successor; the old one works on for a while."""
    return Proposal(
        title="ROTATE API KEY",
        verb="Rotate",
        action="key.rotate",
        resource=key.kid,
        role="security",
        path=route("keys", key.kid, "rotate"),
        command=lambda values: ("keys", "rotate", key.kid, *_given("--grace-hours", values["grace"])),
        facts=(
            sentence("{kid} of {client} works on until its grace is over.", kid=key.kid, client=key.principal),
            sentence("The new key is shown once. Nobody can read it again."),
        ),
        fields=(Field("grace", "Grace in hours (empty: default):"),),
        body=lambda values: {"grace_hours": _number(values["grace"])},
        planned=None,
        done=lambda answer: (sentence("{old} has the successor {new}", old=answer["predecessor"], new=answer["kid"]),),
        secrets=("key",),
        guarded=True,
    )


def revoke_key(key: ApiKeyRow) -> Proposal:
    """Refuses a key from now on."""
    return Proposal(
        title="REVOKE API KEY",
        verb="Revoke",
        action="key.revoke",
        resource=key.kid,
        role="security",
        path=route("keys", key.kid, "revoke"),
        command=lambda values: ("keys", "revoke", key.kid, *_given("--reason", values["reason"])),
        facts=(
            sentence(
                "{kid} of {client} is refused from now on, for good.",
                kid=f"{key.kid} ({key.label})" if key.label else key.kid,
                client=key.principal,
            ),
            sentence("Its running requests end."),
        ),
        fields=(
            Field("exact", "Type the key's id:", exact=key.kid),
            Field("reason", REASON, required=True),
        ),
        body=lambda values: {"reason": values["reason"]},
        planned=_cut,
        done=lambda answer: (sentence("it is {state}", state=sentence(answer["state"])), *_cut(answer)),
        guarded=True,
    )


def new_client() -> Proposal:
    """A client with certificate and key."""
    return Proposal(
        title="NEW CLIENT",
        verb="Make it",
        action="client.create",
        resource="-",
        role="security",
        path="/clients",
        command=lambda values: ("clients", "add", values["name"]),
        facts=(sentence("Its private key and its API key are shown once. The command writes them to files instead."),),
        fields=(Field("name", "Name:", required=True),),
        body=lambda values: {"name": values["name"]},
        planned=None,
        done=lambda answer: (sentence("client {name}", name=answer["name"]),),
        secrets=("files",),
    )


def revoke_client(name: str) -> Proposal:
    """Refuses whatever a client shows, from now on."""
    return Proposal(
        title="REVOKE CLIENT",
        verb="Revoke",
        action="client.revoke",
        resource=name,
        role="security",
        path=route("clients", name, "revoke"),
        command=lambda values: ("clients", "revoke", name, *_given("--reason", values["reason"])),
        facts=(
            sentence("All keys and certificates of {name} are refused from now on.", name=name),
            sentence("Its connections end."),
        ),
        fields=(
            Field("exact", "Type the client's name:", exact=name),
            Field("reason", REASON, required=True),
        ),
        body=lambda values: {"reason": values["reason"]},
        planned=_cut,
        done=lambda answer: (sentence("it is {state}", state=sentence("revoked")), *_cut(answer)),
        guarded=True,
    )


def revoke_certificate(issued: Issued) -> Proposal:
    """Refuses one certificate from now on."""
    return Proposal(
        title="REVOKE CERTIFICATE",
        verb="Revoke",
        action="certificate.revoke",
        resource=issued.serial,
        role="security",
        path="/certificates/revoke",
        command=lambda values: ("certs", "revoke", issued.serial, *_given("--reason", values["reason"])),
        facts=(
            sentence(
                "The certificate {serial} of {name} is refused from now on.", serial=issued.serial, name=issued.name
            ),
        ),
        fields=(
            Field("exact", "Type the holder's name:", exact=issued.name),
            Field("reason", REASON, required=True),
        ),
        body=lambda values: {"certificate": issued.serial, "reason": values["reason"]},
        planned=_cut,
        done=lambda answer: (sentence("it is {state}", state=sentence(answer["state"])), *_cut(answer)),
        guarded=True,
    )


def renew_server() -> Proposal:
    """Makes a new server certificate and keeps it beside the active one."""
    return Proposal(
        title="RENEW SERVER CERTIFICATE",
        verb="Stage",
        action="server.renew",
        resource="server",
        role="security",
        path="/server/renew",
        command=lambda values: ("certs", "renew", "--stage-only"),
        facts=(sentence("A new certificate is made, tested and staged. It counts when you activate it (A)."),),
        body=lambda values: {"stage_only": True},
        guarded=True,
    )


def activate_server(staged: str) -> Proposal:
    """Shows the staged certificate to every new connection."""
    return _server(
        "activate",
        "ACTIVATE SERVER CERTIFICATE",
        (
            sentence("{name} is shown to every new connection from now on.", name=staged),
            sentence("B takes the one of before back."),
        ),
    )


def roll_back_server() -> Proposal:
    """Takes the certificate of before back."""
    return _server("rollback", "ROLL BACK SERVER CERTIFICATE", (sentence("The certificate of before is shown again."),))


def import_server() -> Proposal:
    """Takes the certificate that another authority made for the signing request."""
    return Proposal(
        title="IMPORT SERVER CERTIFICATE",
        verb="Stage",
        action="server.import",
        resource="server",
        role="security",
        path="/server/import",
        command=lambda values: ("certs", "import", values["file"], "--stage-only"),
        facts=(
            sentence("A file of this host: PEM, the certificate first, then its issuers. It is checked and staged."),
        ),
        fields=(Field("file", "File:", required=True, file=True),),
        body=lambda values: {"chain": values["file.text"], "stage_only": True},
        planned=None,
        guarded=True,
    )


def request_server() -> Proposal:
    """A signing request for an authority elsewhere; the private key stays in the appliance."""
    return Proposal(
        title="SIGNING REQUEST",
        verb="Make it",
        action="server.request",
        resource="server",
        role="security",
        path="/server/request",
        command=lambda values: ("certs", "csr"),
        facts=(sentence("The private key stays in the appliance. The request is shown."),),
        planned=None,
        secrets=("csr",),
    )


def _server(verb: str, title: str, facts: tuple[Sentence, ...]) -> Proposal:
    return Proposal(
        title=title,
        verb="Activate" if verb == "activate" else "Roll back",
        action=f"server.{verb}",
        resource="server",
        role="security",
        path=f"/server/{verb}",
        command=lambda values: ("certs", verb),
        facts=facts,
        fields=(Field("exact", "Type server:", exact="server"),),
        guarded=True,
    )


def _cut(answer: Any) -> tuple[Sentence, ...]:
    return (sentence("Connections that end: {count}.", count=answer.get("cut", 0)),)


def _given(option: str, value: str) -> tuple[str, ...]:
    return (option, value) if value else ()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
