"""One import, from what was asked for to a model that may be loaded, or to nothing.

    open without links → headers → room → copy and hash → headers of the copy → compare → trial → manifest → name

Whatever fails before the name leaves nothing behind, but for a model that took its worker down: that goes into
quarantine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.errors import ChangeRefused
from appliance.model_store.hashes import parse_sha256, parse_sums, sums_text
from appliance.model_store.names import check_name
from appliance.model_store.signing import Signer, SignerId, signer_of
from appliance.model_store.source import Source
from appliance.types import ModelInfo

# The trial load: the file, the size of the model in bytes. Raises LoadError, and LoadCrash where a worker died of it.
Trial = Callable[[Path, int], Awaitable[ModelInfo]]


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """path: absolute. name: None for the file's. sha256: hex, of a model in one file. signature: of the SHA256SUMS."""

    path: Path
    name: str | None = None
    sha256: str | None = None
    signature: bytes | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come out. hashes: by file name, as far as somebody said. signature, signer: of the list of all."""

    name: str
    hashes: dict[str, str]
    signature: bytes | None
    signer: SignerId | None


def expect(request: ImportRequest, source: Source, signers: Sequence[Signer], *, require_signature: bool) -> Expected:
    """What can be checked before anything is copied. Raises ChangeRefused."""
    name = check_name(request.name or source.name, "a model's name")
    hashes = {} if source.sums is None else parse_sums(source.sums)
    if request.sha256 is not None:
        if len(source.files) > 1:
            raise ChangeRefused(
                "invalid", "a split model has a SHA-256 for each file: put them into SHA256SUMS and import the folder"
            )
        given = parse_sha256(request.sha256)
        if hashes.get(source.files[0].name, given) != given:
            raise ChangeRefused("invalid", "the SHA-256 is not the one that SHA256SUMS in the folder has")
        hashes[source.files[0].name] = given
    signature = source.signature if request.signature is None else request.signature
    signer = None
    if signature is not None and source.sums is not None:
        signer = signer_of(signers, source.sums, signature)
    elif signature is not None and not signers:
        # Its bytes are known once it is copied, but it would be for nothing.
        signer_of(signers, b"", signature)
    if signature is None and require_signature:
        raise ChangeRefused(
            "invalid",
            "models.require_signature is on and this model is not signed; `appliance models pack PATH --sign KEY` on "
            "the side that vouches for it makes a folder to import",
        )
    return Expected(name, hashes, signature, signer)


def compare(expected: Expected, hashes: dict[str, str], signers: Sequence[Signer]) -> SignerId | None:
    """Whether the copy is what was promised; who signed it. Raises ChangeRefused."""
    for file, sha256 in hashes.items():
        if (wanted := expected.hashes.get(file, sha256)) != sha256:
            raise ChangeRefused("invalid", f"{file} has the SHA-256 {sha256}, not {wanted}; copy it again")
    if expected.signature is None or expected.signer is not None:
        return expected.signer
    return signer_of(signers, sums_text(hashes), expected.signature)


def refusal(error: Exception) -> ChangeRefused:
    """Of a trial that said no."""
    return ChangeRefused("invalid", f"it was tried and cannot be used: {error}")


def quarantine_note(error: Exception, folder: Path) -> ChangeRefused:
    """Of a trial that took its worker down."""
    return ChangeRefused(
        "invalid",
        f"{error}; it is in quarantine in {folder}, where nothing loads it. Other models are not affected. Look at it "
        "elsewhere, then `appliance models remove --quarantined`",
    )


def due(verified: datetime, now: datetime, days: float) -> bool:
    """Whether a model must be verified again. A clock that was set back does not put it off for ever."""
    return not 0 <= (now - verified).total_seconds() < days * 86_400
