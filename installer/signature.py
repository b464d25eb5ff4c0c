"""Whether a release's manifest was signed by a key that this host trusts; Ed25519, checked by the host's openssl."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from installer.errors import Refused

SECONDS_MAX: Final = 30.0
# More than two keys are never in force: the one of now and its successor.
KEYS_MAX: Final = 8
_BEGIN: Final = "-----BEGIN PUBLIC KEY-----"


def fingerprint(pem: bytes) -> str:
    """Of a public key, as it stands on paper: SHA-256 of the key's DER form, in groups of four.

    Raises Refused where the PEM is no public key.
    """
    done = _openssl("pkey", "-pubin", "-outform", "DER", stdin=pem)
    if done.returncode != 0:
        raise Refused("this is no public key in PEM form")
    digest = hashlib.sha256(done.stdout).hexdigest()
    return " ".join(digest[start : start + 4] for start in range(0, len(digest), 4))


def signer(manifest: bytes, signature: bytes, trusted: Mapping[str, bytes]) -> str:
    """The name of the trusted key that signed it. trusted: PEMs by name. Raises Refused where none did."""
    with tempfile.TemporaryDirectory() as folder:
        message, signed, key = (Path(folder) / name for name in ("message", "signature", "key"))
        message.write_bytes(manifest)
        signed.write_bytes(signature)
        for name, pem in list(trusted.items())[:KEYS_MAX]:
            key.write_bytes(pem)
            files = ("-inkey", str(key), "-in", str(message), "-sigfile", str(signed))
            if _openssl("pkeyutl", "-verify", "-pubin", "-rawin", *files).returncode == 0:
                return name
    raise Refused(
        "the bundle was signed by none of the keys that are trusted here: it is damaged, or not from where it should be"
    )


def read_keys(folder: Path) -> dict[str, bytes]:
    """The PEMs of a folder by file name; none where there is no folder."""
    found = {path.name: path.read_bytes() for path in sorted(folder.glob("*.pem"))}
    return {name: pem for name, pem in found.items() if pem.lstrip().startswith(_BEGIN.encode())}


def _openssl(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ("openssl", *arguments), input=stdin, capture_output=True, check=False, timeout=SECONDS_MAX
        )
    except FileNotFoundError:
        raise Refused("openssl is not installed; it checks the bundle's signature: apt-get install openssl") from None
