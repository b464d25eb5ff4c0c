"""The private certificate authorities and the server certificate, in `pki/`.

    appliance-id    names this appliance in every client's identity
    server-ca.pem   signs the server certificate; its certificate is the ca.crt of a client bundle
    client-ca.pem   signs client certificates; the only one the server accepts them from
    server.pem      what the server shows

Two authorities, so that whatever the server's CA signs can never pass for a client.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from appliance.errors import StateError
from appliance.security.certificates import (
    SERVER_LIFE,
    KeyPair,
    issue_client,
    issue_server,
    new_ca,
    server_names_of,
)
from appliance.security.identity import client_uri
from appliance.security.pem_pair import certificate_pem, password_for, read_certificate, read_pair, write_pair
from appliance.security.secret_files import Generations
from appliance.state_dir import read_private, write_atomic

# What the passwords of private keys are derived for; changing it makes every pki/ folder unreadable.
KEY_PURPOSE: Final = "pki private keys"

_ID = re.compile(r"[0-9a-f]{16}")
_ID_BYTES_MAX: Final = 64


class Pki:
    """The folder `pki/`. Issuing holds StateDir.writing(), which the caller takes."""

    def __init__(
        self, folder: Path, appliance_id: str, passwords: Sequence[bytes], now: Callable[[], datetime]
    ) -> None:
        self.appliance_id = appliance_id
        self.server_path = folder / "server.pem"
        self._server_ca_path = folder / "server-ca.pem"
        self._client_ca_path = folder / "client-ca.pem"
        self._passwords = passwords
        self._now = now

    @classmethod
    def open(cls, folder: Path, keks: Generations, now: Callable[[], datetime], *, create: bool) -> Pki:
        """Opens the folder; with `create`, makes the id and the authorities that are missing. Raises StateError."""
        id_path = folder / "appliance-id"
        if create and not id_path.exists():
            write_atomic(id_path, secrets.token_hex(8).encode() + b"\n")
        pki = cls(folder, _read_id(id_path), keks.passwords(KEY_PURPOSE), now)
        for path, role in ((pki._server_ca_path, "server"), (pki._client_ca_path, "client")):
            if create and not path.exists():
                write_pair(path, new_ca(f"appliance {pki.appliance_id} {role} CA", now()), pki._passwords[0])
            read_certificate(path)
        return pki

    @property
    def server_ca_pem(self) -> bytes:
        """What a client verifies this server with."""
        return certificate_pem(read_certificate(self._server_ca_path))

    @property
    def client_ca_pem(self) -> bytes:
        """What the server verifies clients with."""
        return certificate_pem(read_certificate(self._client_ca_path))

    @property
    def server_password(self) -> bytes:
        """Opens the private key in `server_path`."""
        return password_for(self.server_path, self._passwords)

    def ensure_server_certificate(self, names: Sequence[str]) -> bool:
        """Issues the server certificate anew where one is due; True says that it did.

        Due is one that is missing, lacks one of `names`, is of another CA, or has less than a third of its life left.
        Clients verify the CA, so they do not notice.
        """
        if self.server_path.exists() and not self._server_due(names):
            return False
        ca = read_pair(self._server_ca_path, self._passwords)
        write_pair(self.server_path, issue_server(ca, names, self._now()), self._passwords[0])
        return True

    def issue_client(self, name: str) -> KeyPair:
        """A new key and certificate for client `name`; nothing of it is kept here."""
        ca = read_pair(self._client_ca_path, self._passwords)
        return issue_client(ca, name, client_uri(self.appliance_id, name), self._now())

    def _server_due(self, names: Sequence[str]) -> bool:
        certificate = read_certificate(self.server_path)
        ca = read_certificate(self._server_ca_path)
        return (
            not server_names_of(certificate).issuperset(names)
            or certificate.issuer != ca.subject
            or certificate.not_valid_after_utc - self._now() < SERVER_LIFE / 3
        )


def _read_id(path: Path) -> str:
    text = read_private(path, _ID_BYTES_MAX).decode("ascii", "replace").strip()
    if not _ID.fullmatch(text):
        raise StateError(f"{path} is damaged; restore it from a backup")
    return text
