"""What encryption at rest costs: one seal, and opening a keyring by each source of the KEK.

    python -m bench.keyring [--module /usr/lib/softhsm/libsofthsm2.so --token LABEL --key LABEL --pin-file PATH]

The ring has 3 purposes that were rotated to 4 generations and one that was not: 13 keys. Medians. The token is measured
where one is given; for SoftHSM2, SOFTHSM2_CONF says where its tokens are.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from appliance.access_config import KeyEncryption
from appliance.keyring.credential_kek import CredentialKek
from appliance.keyring.file_kek import FileKek
from appliance.keyring.kek import Kek
from appliance.keyring.keyring import Keyring
from appliance.keyring.open_kek import token_key
from appliance.keyring.passphrase_kek import PassphraseKek
from appliance.keyring.pkcs11_kek import Pkcs11Kek
from appliance.keyring.recovery import RecoveryPublicKey, RecoverySecretKey, generate_recovery_key
from tests.unit.keyring.archives import decrypt_archive, encrypt_archive
from tests.unit.keyring.token_keys import create_key

GENERATIONS: Final = 4
ARCHIVE_BYTES: Final = 256 * 2**20
MIB: Final = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for option in ("--module", "--token", "--key", "--pin-file"):
        parser.add_argument(option)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-keyring-") as name:
        folder = Path(name)
        openers: dict[str, Callable[[], Kek]] = {
            "file": lambda: FileKek.open(folder, create=True),
            "credential": lambda: CredentialKek("bench", b"k" * 32),
            "passphrase": lambda: PassphraseKek.open(folder, "correct horse battery", create=True),
        }
        if options.module:
            settings = KeyEncryption(
                source="pkcs11",
                pkcs11_module=options.module,
                pkcs11_token=options.token,
                pkcs11_key=options.key or f"bench-{secrets.token_hex(4)}",
                pkcs11_pin_file=options.pin_file,
            )
            where = token_key(settings, {})
            if not options.key:
                create_key(where)
            openers["pkcs11"] = lambda: Pkcs11Kek.open(where)
        for source, open_source in openers.items():
            _measure_open(folder / f"{source}.json", source, open_source)
        _measure_seal(Keyring.open(folder / "file.json", openers["file"](), _now, create=False))
        _measure_archive(folder)


def _measure_open(path: Path, source: str, open_source: Callable[[], Kek]) -> None:
    kek = open_source()
    ring = Keyring.open(path, kek, _now, create=True)
    for _ in range(GENERATIONS - 1):
        for purpose in ("credentials", "audit", "capture"):
            ring.rotate(purpose)
    kek_seconds = _median(open_source, 5)
    ring_seconds = _median(lambda: Keyring.open(path, kek, _now, create=False), 20)
    keys = len(ring.status())
    print(f"{source:10}  open the KEK {1e3 * kek_seconds:8.2f} ms   open {keys} keys {1e3 * ring_seconds:7.2f} ms")


def _measure_seal(ring: Keyring) -> None:
    for size in (600, MIB):
        plaintext = secrets.token_bytes(size)
        sealed = ring.seal("audit", "record", plaintext)
        count = 20_000 if size < MIB else 100
        seal = _median(partial(_repeat, partial(ring.seal, "audit", "record", plaintext), count), 5) / count
        unseal = _median(partial(_repeat, partial(ring.unseal, "audit", "record", sealed), count), 5) / count
        print(f"{size:8} B   seal {1e6 * seal:8.2f} us   unseal {1e6 * unseal:8.2f} us")


def _measure_archive(folder: Path) -> None:
    secret_text, public_text = generate_recovery_key()
    source, archive, target = folder / "source", folder / "archive", folder / "target"
    source.write_bytes(bytes(ARCHIVE_BYTES))
    encrypt = _median(lambda: encrypt_archive(RecoveryPublicKey.parse(public_text), source, archive), 1)
    decrypt = _median(lambda: decrypt_archive(RecoverySecretKey.parse(secret_text), archive, target), 1)
    mib = ARCHIVE_BYTES / MIB
    print(f"archive     encrypt {mib / encrypt:.0f} MiB/s   decrypt {mib / decrypt:.0f} MiB/s, durable")


def _repeat(work: Callable[[], object], count: int) -> None:
    for _ in range(count):
        work()


def _median(work: Callable[[], object], times: int) -> float:
    """Seconds."""
    laps = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        laps.append(time.perf_counter() - began)
    return statistics.median(laps)


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
