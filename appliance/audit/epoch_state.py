"""The MAC key of now, on disk: encrypted, replaced whenever an epoch begins, so that older keys are gone.

It is replaced once the first record of the new epoch is durable, not before. So the key on disk is never younger than
the last record, and after a crash it is evolved up to it; were it written first, a crash between the two and a clock
that is then set back would leave records without a key that fits their time. The old key lives some 20 ms longer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from appliance.audit.chain import EpochKey, Link
from appliance.audit.record import canonical
from appliance.errors import StateError
from appliance.keyring.cipher import Cipher
from appliance.state_dir import read_private, write_atomic

_RECORD_ID: Final = "audit/epoch-key"
_BYTES_MAX: Final = 64 * 1024


class EpochState(Struct, frozen=True, kw_only=True):
    """link: the chain when this was written; a log that does not contain it has lost its end. key: hex.

    segment: the open one. seal: hash of the newest seal. founded, verification_key: which K0 the key comes from.
    """

    v: int
    founded: int
    verification_key: str
    epoch: int
    key: str
    segment: int
    seal: str
    link: Link

    @property
    def epoch_key(self) -> EpochKey:
        """The key itself."""
        return EpochKey(self.epoch, bytes.fromhex(self.key))

    def write(self, path: Path, cipher: Cipher) -> None:
        """Replaces the file. Raises StateError."""
        write_atomic(path, cipher.seal(_RECORD_ID, canonical(self)))

    @classmethod
    def read(cls, path: Path, cipher: Cipher) -> EpochState:
        """Raises StateError for a file that is missing, damaged, or encrypted under other keys."""
        plain = cipher.unseal(_RECORD_ID, read_private(path, _BYTES_MAX))
        try:
            state = msgspec.json.decode(plain, type=cls)
            if len(bytes.fromhex(state.key)) != 32:
                raise ValueError("the key has another length")
        except (msgspec.MsgspecError, ValueError) as error:
            raise StateError(f"{path}: {error}") from error
        return state
