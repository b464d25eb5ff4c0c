"""What the store knows of one model. Pure.

`manifest.json` is written last: a folder without one is no model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from appliance.errors import StateError
from appliance.gguf.facts import ModelFacts
from appliance.gguf.split import PARTS_MAX
from appliance.model_store.names import NAME
from appliance.model_store.signing import SignerId

FILE: Final = "manifest.json"
BYTES_MAX: Final = 2**20
_Name = Annotated[str, Meta(pattern=rf"^{NAME}\Z")]
_Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Identity(Struct, frozen=True):
    """What a file looks like from outside: who rewrites it changes this, the time of the change (ctime) surely."""

    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """From fstat or lstat."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class StoredFile(Struct, frozen=True, kw_only=True):
    """sha256: hex. identity: when the hash was taken last and was right."""

    name: _Name
    sha256: _Sha256
    identity: Identity


class QuantizedFrom(Struct, frozen=True, kw_only=True):
    """Which imported model this one was made of. sha256: hex, of its file; of a split one, of its SHA256SUMS.

    tensor_types: what it became, in bytes of weights by their type: rows that do not suit a type get another one.
    """

    name: _Name
    sha256: _Sha256
    tensor_types: dict[str, int]


class Manifest(Struct, frozen=True, kw_only=True):
    """files: in order of their parts. parameters: how many weights. context_length: that it was trained for, in tokens.

    license, title: as the file says. chat_template_sha256: hex, None without a template. signer: whose signature was
    checked. imported_from: the path. verified: when all hashes were found right last. fault: why it may not be
    loaded; None while all is well. trial_seconds: how long it took to load on the processor. quantized_from: None of a
    model that came from elsewhere.
    """

    version: int = 1
    name: _Name
    files: Annotated[tuple[StoredFile, ...], Meta(min_length=1, max_length=PARTS_MAX)]
    architecture: str
    quantisation: str
    parameters: int
    context_length: int
    license: str | None
    title: str | None
    chat_template_sha256: str | None
    signer: SignerId | None
    imported: datetime
    imported_from: str
    verified: datetime
    fault: str | None = None
    trial_seconds: float
    quantized_from: QuantizedFrom | None = None

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.identity.bytes for file in self.files)

    @property
    def hashes(self) -> Mapping[str, str]:
        """By file name, hex."""
        return {file.name: file.sha256 for file in self.files}


def new_manifest(
    name: str,
    files: tuple[StoredFile, ...],
    facts: ModelFacts,
    *,
    signer: SignerId | None,
    source: str,
    now: datetime,
    trial_seconds: float,
    quantized_from: QuantizedFrom | None = None,
) -> Manifest:
    """Of a model that has just been tried."""
    return Manifest(
        name=name,
        files=files,
        architecture=facts.architecture,
        quantisation=facts.quantisation,
        parameters=facts.parameters,
        context_length=facts.context_length,
        license=facts.license,
        title=facts.name,
        chat_template_sha256=facts.chat_template_sha256,
        signer=signer,
        imported=now,
        imported_from=source,
        verified=now,
        trial_seconds=trial_seconds,
        quantized_from=quantized_from,
    )


def encode(manifest: Manifest) -> bytes:
    """For people too."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(data: bytes, where: str) -> Manifest:
    """Raises StateError."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"{where} is damaged ({error}); import the model again") from None
