"""Clients and what is handed to them: `clients/<name>/{client.crt,client.key,ca.crt,api.key}`.

The API key records say who is a client. A bundle folder without a record is left over from an `add` that was cut short
and is replaced; an operator may remove a bundle once it is handed over, and the client stays.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.errors import ConfigError, StateError
from appliance.security.api_keys import ApiKey, KeyRecord
from appliance.security.identity import CLIENT_NAME
from appliance.security.pem_pair import certificate_pem, plain_key_pem, read_certificate
from appliance.security.vault import Clock, Vault, utc_now
from appliance.state_dir import StateDir, sync_folder, temporary_sibling, write_atomic


@dataclass(frozen=True, slots=True)
class ClientBundle:
    """A new client's folder. Its `api.key` and `client.key` are the only copies there are."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Client:
    """A client as listed. not_after: the end of its certificate, None once its bundle is no longer here."""

    name: str
    key_ids: tuple[str, ...]
    not_after: datetime | None


def add_client(state: StateDir, name: str, now: Clock = utc_now) -> ClientBundle:
    """Makes a client with certificate and API key; a running daemon knows it at once.

    All or nothing. Raises ConfigError for a bad name, StateError for a taken one and for a damaged state.
    """
    if not CLIENT_NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no client name; use 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit"
        )
    state.check()
    with state.writing():
        vault = Vault.open(state, now, create=False)
        if name in vault.keys.kids_by_principal():
            raise StateError(
                f"the client {name!r} exists; its bundle was written to {state.clients / name}. Choose another name"
            )
        return issue_bundle(state, vault, name, now)


def list_clients(state: StateDir, now: Clock = utc_now) -> list[Client]:
    """Every client, by name. Raises StateError."""
    state.check()
    with state.writing():
        clients = Vault.open(state, now, create=False).keys.kids_by_principal()
    return [Client(name, kids, _not_after(state.clients / name)) for name, kids in sorted(clients.items())]


def issue_bundle(state: StateDir, vault: Vault, name: str, now: Clock) -> ClientBundle:
    """Writes the bundle, then the record that makes it valid. The caller holds StateDir.writing()."""
    folder = state.clients / name
    key = ApiKey.generate()
    pair = vault.pki.issue_client(name)
    temporary = temporary_sibling(folder)
    try:
        temporary.mkdir(mode=0o700)
        write_atomic(temporary / "client.crt", certificate_pem(pair.certificate))
        write_atomic(temporary / "client.key", plain_key_pem(pair))
        write_atomic(temporary / "ca.crt", vault.pki.server_ca_pem)
        write_atomic(temporary / "api.key", key.reveal().encode() + b"\n")
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
        sync_folder(state.clients)
    except OSError as error:
        raise StateError(f"{folder}: the client bundle cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    try:
        vault.keys.add(KeyRecord.of(key, name, vault.peppers, created=now()))
    except StateError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return ClientBundle(name, folder)


def _not_after(bundle: Path) -> datetime | None:
    try:
        return read_certificate(bundle / "client.crt").not_valid_after_utc
    except StateError:
        return None
