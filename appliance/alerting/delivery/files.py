"""The files of a receiver: who it is, who we are. They block for as long as reading a few small files takes."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from appliance.alerting.delivery.receiver import DeliveryError
from appliance.errors import StateError
from appliance.security.tls import outgoing_context
from appliance.security.trusted_file import read_trusted
from appliance.state_dir import read_private

PEM_BYTES_MAX: Final = 2**20
SECRET_BYTES_MAX: Final = 8192
_MISSING: Final = "put it there, or correct appliance.yaml"


def tls_context(ca: str | None, certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """For one connection. Raises DeliveryError, which names the file."""
    if (certificate is None) != (key is None):
        raise DeliveryError("certificate and key go together; write both or none")
    pair = None
    if certificate is not None and key is not None:
        pair = _trusted(certificate) + b"\n" + _private(key, PEM_BYTES_MAX)
    try:
        return outgoing_context(None if ca is None else _trusted(ca), pair)
    except ValueError as error:
        raise DeliveryError(f"{', '.join(filter(None, (ca, certificate, key)))}: {error}") from error


def secret(path: str) -> str:
    """One line that only the service may read. Raises DeliveryError."""
    data = _private(path, SECRET_BYTES_MAX).strip()
    if not data or not data.isascii() or not data.decode("ascii").isprintable():
        raise DeliveryError(f"{path} holds no secret: one line of printable ASCII characters")
    return data.decode("ascii")


def _trusted(path: str) -> bytes:
    try:
        return read_trusted(Path(path), PEM_BYTES_MAX)
    except ValueError as error:
        raise DeliveryError(f"{path} {error}") from error


def _private(path: str, bytes_max: int) -> bytes:
    try:
        return read_private(Path(path), bytes_max, if_missing=_MISSING)
    except StateError as error:
        raise DeliveryError(str(error)) from error
