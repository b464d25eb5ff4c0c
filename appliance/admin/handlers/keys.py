"""API keys, clients and principals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct

from appliance.admin.route import Answer, Call
from appliance.errors import ChangeRefused, StateError
from appliance.security.api_keys import ApiKey, KeyRecord, KeyState
from appliance.security.client_bundle import BundleFiles, add_client, is_client, renew_client
from appliance.security.credentials import Credentials
from appliance.security.jwt_tokens import TOKEN_ID_CHARS_MAX
from appliance.security.key_changes import add_key, revoke_key, rotate_key
from appliance.security.revocations import restore_principal, revoke
from appliance.telemetry.key_hours import KeyUsage

_log = logging.getLogger(__name__)

Text = Annotated[str, Meta(max_length=256)]


class AddClient(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """csr: PEM; then the client keeps its private key to itself."""

    name: Text
    csr: Annotated[str, Meta(max_length=16384)] | None = None
    label: Text = ""


class AddKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """life_days: default api_keys.life_days."""

    principal: Text
    label: Text = ""
    life_days: Annotated[int, Meta(ge=1, le=366)] | None = None


class RotateKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """grace_hours: default api_keys.grace_hours."""

    grace_hours: Annotated[float, Meta(ge=0, le=14 * 24)] | None = None
    force: bool = False


class Because(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """reason: for the audit log and the list of revocations."""

    reason: Text = ""


class KeyLimits(Struct, frozen=True, kw_only=True):
    """The limits of a key's principal, which all of its keys share; null: none."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    tokens_per_month: int | None
    concurrent_max: int | None


class KeyView(Struct, frozen=True, kw_only=True):
    """An API key as it is listed.

    models: ids and aliases that its principal may use; all where empty. last_day: null where the request log cannot
    be read.
    """

    kid: str
    principal: str
    state: KeyState
    label: str
    created: datetime
    works_until: datetime | None
    last_used: datetime | None
    successor: str | None
    pepper: int
    role: str
    models: tuple[str, ...]
    limits: KeyLimits
    last_day: KeyUsage | None


class NewKey(Struct, frozen=True, kw_only=True):
    """key: its text, shown this once."""

    kid: str
    principal: str
    key: str
    works_until: datetime | None
    predecessor: str | None = None
    predecessor_works_until: datetime | None = None


class ClientView(Struct, frozen=True, kw_only=True):
    """A principal with credentials from here. certificate_until: the end of its newest certificate."""

    name: str
    keys: list[str]
    certificate_until: datetime | None
    revoked: bool


class NewClient(Struct, frozen=True, kw_only=True):
    """files: what the client needs, by name; the private key and the API key are shown this once."""

    name: str
    files: dict[str, str]


async def list_keys(call: Call) -> Answer:
    """Every key, newest first; `?principal=` narrows."""
    document, now, wanted = call.office.document, call.office.now(), call.query.get("principal")
    records = [record for record in document.keys.values() if wanted in (None, record.principal)]
    used = await _usage(call, [record.kid for record in records])
    keys = [_view(call, record, now, used) for record in records]
    return call.answer(sorted(keys, key=lambda key: key.created, reverse=True))


async def create_key(call: Call) -> Answer:
    """A further key of a principal that is known."""
    asked, key, config = call.parsed(AddKey), ApiKey.generate(), call.office.config.api_keys
    life = timedelta(days=asked.life_days or config.life_days)

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, KeyRecord]:
        _known(call, document, asked.principal)
        after = add_key(document, key, asked.principal, now, life, asked.label)
        return after, after.keys[key.kid]

    change = await call.change(key.kid, transition, details={"principal": asked.principal})
    return Answer(_new(call, key, change.result), change.generation)


async def rotate(call: Call) -> Answer:
    """A successor; the old key works on until its grace is over."""
    asked, kid, key, config = call.parsed(RotateKey), call.match["kid"], ApiKey.generate(), call.office.config.api_keys
    grace = timedelta(hours=config.grace_hours if asked.grace_hours is None else asked.grace_hours)

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, tuple[KeyRecord, KeyRecord]]:
        after = rotate_key(
            document, kid, key, now, grace=grace, life=timedelta(days=config.life_days), force=asked.force
        )
        return after, (after.keys[key.kid], after.keys[kid])

    change = await call.change(
        kid, transition, details={"successor": key.kid, "grace_hours": str(grace.total_seconds() / 3600)}
    )
    record, old = change.result
    return Answer(_new(call, key, record, old), change.generation)


async def revoke_one(call: Call) -> Answer:
    """Refuses a key from now on, and ends its running requests."""
    kid, reason = call.match["kid"], call.parsed(Because).reason
    change = await call.change(
        kid, lambda document, now: (revoke_key(document, kid, now), None), details={"why": reason}
    )
    return Answer({"kid": kid, "state": "revoked", "cut": change.cut}, change.generation)


async def list_clients(call: Call) -> Answer:
    """Every principal with a key or a certificate, by name."""
    document, revoked = call.office.document, call.office.access.view.revocations.principals
    until: dict[str, datetime] = {}
    for issued in document.issued:
        if issued.kind == "client":
            until[issued.name] = max(issued.not_after, until.get(issued.name, issued.not_after))
    keys: dict[str, list[str]] = {name: [] for name in until}
    for record in document.keys.values():
        keys.setdefault(record.principal, []).append(record.kid)
    return call.answer(
        [
            ClientView(name=name, keys=kids, certificate_until=until.get(name), revoked=name in revoked)
            for name, kids in sorted(keys.items())
        ]
    )


async def create_client(call: Call) -> Answer:
    """A new principal with a certificate and a key."""
    asked = call.parsed(AddClient)
    life = timedelta(days=call.office.config.api_keys.life_days)

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, BundleFiles]:
        csr = None if asked.csr is None else asked.csr.encode()
        return add_client(document, call.office.profiles, asked.name, now, life=life, label=asked.label, csr=csr)

    change = await call.change(asked.name, transition)
    return Answer(_bundle(call, asked.name, change.result), change.generation)


async def renew(call: Call) -> Answer:
    """A new certificate for a client; the one it has stays valid until its end or its revocation."""
    asked, name = call.parsed(RenewClient), call.match["name"]

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, BundleFiles]:
        csr = None if asked.csr is None else asked.csr.encode()
        return renew_client(document, call.office.profiles, name, now, csr=csr)

    change = await call.change(name, transition)
    return Answer(_bundle(call, name, change.result), change.generation)


async def revoke_client(call: Call) -> Answer:
    """Refuses a principal, whatever it shows, and ends what it is doing."""
    name, reason, by = call.match["name"], call.parsed(Because).reason, call.administrator.name

    def transition(document: Credentials, now: datetime) -> tuple[Credentials, None]:
        _known(call, document, name)
        return revoke(document, "principal", name, now, by=by, reason=reason), None

    change = await call.change(name, transition, details={"why": reason})
    return Answer({"name": name, "revoked": True, "cut": change.cut}, change.generation)


async def restore_client(call: Call) -> Answer:
    """Takes a principal's revocation back; revoked keys and certificates stay revoked."""
    name = call.match["name"]
    change = await call.change(name, lambda document, now: (restore_principal(document, name), None))
    return Answer({"name": name, "revoked": False}, change.generation)


async def revoke_token(call: Call) -> Answer:
    """Refuses one JWT by its `jti`."""
    token, reason, by = call.match["token"], call.parsed(Because).reason, call.administrator.name
    if len(token) > TOKEN_ID_CHARS_MAX:
        raise ChangeRefused("invalid", f"a token's id (its `jti`) has at most {TOKEN_ID_CHARS_MAX} characters")
    change = await call.change(
        token,
        lambda document, now: (revoke(document, "token", token, now, by=by, reason=reason), None),
        details={"why": reason},
    )
    return Answer({"token": token, "revoked": True, "cut": change.cut}, change.generation)


class RenewClient(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """csr: PEM; then the client keeps its private key to itself."""

    csr: Annotated[str, Meta(max_length=16384)] | None = None


def _known(call: Call, document: Credentials, name: str) -> None:
    if not is_client(document, name) and name not in call.office.config.principals:
        raise ChangeRefused(
            "not_found", f"there is no client {name!r}; `appliance clients list` shows them, `clients add` makes one"
        )


async def _usage(call: Call, kids: Sequence[str]) -> Mapping[str, KeyUsage] | None:
    """None where the request log cannot be read: who looks for a key to revoke is to find it all the same."""
    try:
        return await asyncio.to_thread(call.site.requests.usage_of_keys, kids)
    except StateError as error:
        _log.warning("%s; what keys were used for is not shown", error)
        return None


def _view(call: Call, record: KeyRecord, now: datetime, used: Mapping[str, KeyUsage] | None) -> KeyView:
    settings = call.office.access.view.settings(record.principal)
    return KeyView(
        kid=record.kid,
        principal=record.principal,
        state=record.state(now),
        label=record.label,
        created=record.created,
        works_until=record.works_until,
        last_used=call.office.seen.key(record.kid),
        successor=record.successor,
        pepper=record.pepper,
        role=settings.role,
        models=settings.models,
        limits=KeyLimits(**{name: getattr(settings, name) for name in KeyLimits.__struct_fields__}),
        last_day=None if used is None else used.get(record.kid, KeyUsage()),
    )


def _new(call: Call, key: ApiKey, record: KeyRecord, old: KeyRecord | None = None) -> NewKey:
    return NewKey(
        kid=record.kid,
        principal=record.principal,
        key="" if call.plan else key.reveal(),
        works_until=record.works_until,
        predecessor=None if old is None else old.kid,
        predecessor_works_until=None if old is None else old.works_until,
    )


def _bundle(call: Call, name: str, files: BundleFiles) -> NewClient:
    return NewClient(name=name, files={} if call.plan else {file: text.decode() for file, text in files.items()})
