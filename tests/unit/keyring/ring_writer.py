"""A process that changes a keyring until it is killed; test_keyring_crash runs it.

    python -m tests.unit.keyring.ring_writer FOLDER SEED

Each line on stdout is `number hex`: a sealed record that must open whatever comes next. Between two records it rotates,
or wraps the ring under the other of two KEKs.
"""

from __future__ import annotations

import random
import sys
from datetime import UTC, datetime
from pathlib import Path

from appliance.keyring.file_kek import FileKek
from appliance.keyring.keyring import Keyring


def main() -> None:
    folder, chance = Path(sys.argv[1]), random.Random(sys.argv[2])
    keks = [FileKek.open(folder / name, create=True) for name in ("kek-a", "kek-b")]
    ring = Keyring.open(folder / "keyring.json", keks[0], lambda: datetime.now(UTC), create=True)
    number = 0
    while True:
        sealed = ring.seal("audit", str(number), str(number).encode())
        sys.stdout.write(f"{number} {sealed.hex()}\n")
        sys.stdout.flush()
        number += 1
        if chance.random() < 0.5:
            ring.rotate("audit")
        else:
            keks.reverse()
            ring.rekey(keks[0])


if __name__ == "__main__":
    main()
