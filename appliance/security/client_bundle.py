"""What is handed to a client: `client.crt`, `client.key`, `ca.crt`, `api.key`. Pure but for randomness.

The private key and the API key exist nowhere else: the document lists the certificate and holds an HMAC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from appliance.errors import ChangeRefused
from appliance.security.api_keys import ApiKey
from appliance.security.credentials import Credentials
from appliance.security.identity import CLIENT_NAME
from appliance.security.issuing import LeafKind, SignedLeaf, server_trust_pem, sign_leaf
from appliance.security.key_changes import add_key
from appliance.security.profiles import Profiles

BundleFiles = Mapping[str, bytes]


def add_client(
    document: Credentials,
    profiles: Profiles,
    name: str,
    now: datetime,
    *,
    life: timedelta,
    label: str = "",
    csr: bytes | None = None,
) -> tuple[Credentials, BundleFiles]:
    """A new client with certificate and API key (valid for `life`).

    csr: a signing request; then `client.key` is not among the files. Raises ChangeRefused for a name that is taken.
    """
    if not CLIENT_NAME.fullmatch(name):
        raise ChangeRefused(
            "invalid", f"{name!r} is no client name; use 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit"
        )
    if is_client(document, name):
        raise ChangeRefused("conflict", f"the client {name!r} exists; choose another name, or renew what it has")
    document, leaf = sign_leaf(document, profiles, "client", name, now, csr=csr)
    key = ApiKey.generate()
    document = add_key(document, key, name, now, life, label)
    return document, {**_leaf_files(document, leaf, "client"), "api.key": key.reveal().encode() + b"\n"}


def renew_client(
    document: Credentials, profiles: Profiles, name: str, now: datetime, *, csr: bytes | None = None
) -> tuple[Credentials, BundleFiles]:
    """A new certificate for a client that is known. Raises ChangeRefused."""
    if not is_client(document, name):
        raise ChangeRefused("not_found", f"there is no client {name!r}; `appliance clients list` shows them")
    document, leaf = sign_leaf(document, profiles, "client", name, now, csr=csr)
    return document, _leaf_files(document, leaf, "client")


def issue_certificate(
    document: Credentials,
    profiles: Profiles,
    kind: LeafKind,
    name: str,
    now: datetime,
    *,
    csr: bytes | None = None,
) -> tuple[Credentials, BundleFiles]:
    """A certificate and no API key. What an administrator may do, appliance.yaml says. Raises ChangeRefused."""
    if not CLIENT_NAME.fullmatch(name):
        raise ChangeRefused("invalid", f"{name!r} is no name; use 1 to 63 of a-z, 0-9 and '-'")
    document, leaf = sign_leaf(document, profiles, kind, name, now, csr=csr)
    return document, _leaf_files(document, leaf, kind)


def is_client(document: Credentials, name: str) -> bool:
    """Whether somebody of this name has, or had, a key or a certificate from here."""
    return any(record.principal == name for record in document.keys.values()) or any(
        issued.name == name for issued in document.issued if issued.kind == "client"
    )


def _leaf_files(document: Credentials, leaf: SignedLeaf, stem: str) -> dict[str, bytes]:
    files = {f"{stem}.crt": leaf.certificate, "ca.crt": server_trust_pem(document)}
    return files if leaf.key is None else {**files, f"{stem}.key": leaf.key}
