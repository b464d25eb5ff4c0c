"""What loads really took, by file and settings: `<state>/store/memory.json`. It corrects the next estimate.

Losing it costs accuracy alone, so a damaged file is reported and begun anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from appliance.errors import StateError
from appliance.placement.estimate import Correction, Footprint, MemoryEstimate
from appliance.placement.layout import Layout
from appliance.state_dir import FiguresFile, read_private
from appliance.types import EngineBuffer, MemoryUse, ModelSpec

FILE_BYTES_MAX: Final = 4 * 2**20
FILES_MAX: Final = 256
SETTINGS_PER_FILE_MAX: Final = 16

_Bytes = Annotated[int, Meta(ge=-(2**53), le=2**53)]
_log = logging.getLogger(__name__)


class _Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Beyond the estimate, in bytes. device: of the GPU that took most."""

    host: _Bytes
    device: _Bytes | None


class _File(Struct, kw_only=True, forbid_unknown_fields=True):
    """Oldest first in both: models by `file_key`, then settings by `settings_key`."""

    models: dict[str, dict[str, _Entry]] = {}


class MemoryLedger:
    """Belongs to the event loop, `save_aside` included; the disk is written in a thread."""

    def __init__(self, path: Path) -> None:
        """Reads the file, and waits for the disk: for the start."""
        self._file = FiguresFile(path)
        self._known = _File()
        if path.exists():
            try:
                self._known = msgspec.json.decode(read_private(path, FILE_BYTES_MAX), type=_File)
            except (StateError, ValueError, RecursionError) as error:
                _log.warning("%s cannot be read (%s); what loads took is measured anew", path, error)

    def correction(self, file: str, spec: ModelSpec) -> Correction:
        """What is to be added to the estimate of this file.

        With the same settings, what was measured with them, be it less. Else the most that other settings took beyond
        their estimate. file: see `file_key`. spec: as it is configured, before it is placed.
        """
        settings = self._known.models.get(file, {})
        exact = settings.get(settings_key(spec))
        if exact is not None:
            return Correction(exact.host, exact.device or 0)
        return Correction(
            max([0, *(entry.host for entry in settings.values())]),
            max([0, *(entry.device or 0 for entry in settings.values())]),
        )

    def note(self, file: str, spec: ModelSpec, need: MemoryEstimate, split: tuple[int, ...], taken: Footprint) -> None:
        """A load has been measured. need: as estimated without correction; taken: see `measured`."""
        expected = Layout(need).footprint(split)
        pairs = [(real, said) for real, said in zip(taken.devices, expected.devices, strict=False) if real and said]
        entry = _Entry(
            host=taken.host - expected.host,
            device=max((real - said for real, said in pairs), default=None),
        )
        self._keep(file, spec, entry)

    def note_lack(self, file: str, spec: ModelSpec, device_bytes: int) -> None:
        """A load lacked memory: the next estimates count so much more for each GPU, until a load is measured."""
        known = self.correction(file, spec)
        entry = _Entry(host=known.host, device=known.device + device_bytes)
        self._keep(file, spec, entry)

    def _keep(self, file: str, spec: ModelSpec, entry: _Entry) -> None:
        settings = self._known.models.pop(file, {})
        settings.pop(settings_key(spec), None)
        settings[settings_key(spec)] = entry
        _drop_oldest(settings, SETTINGS_PER_FILE_MAX)
        self._known.models[file] = settings
        _drop_oldest(self._known.models, FILES_MAX)
        self._file.changed = True

    async def save_aside(self) -> None:
        """Writes the file where something changed. A failure is logged and tried again next time."""
        await self._file.save_aside(self._known)


def measured(use: MemoryUse, need: MemoryEstimate, model_bytes: int, uuids: tuple[str, ...]) -> Footprint:
    """What a loaded model takes, as a footprint that placement can reckon with.

    Buffers count whole, filled or not. Weights count once: where llama.cpp has copied mapped ones into an order of its
    own, the mapping need not stay in memory. What is taken only later counts as promised: for preempted requests, for
    logits of prompts, for longer texts of a model that pools, and for computing on the processor.
    model_bytes: of all weights. uuids: of the machine's GPUs, in order.
    """
    host = [buffer for buffer in use.buffers if is_host(buffer.device)]
    allocated = sum(buffer.bytes for buffer in host if not is_mapped(buffer))
    weights = mapped_weights(use, model_bytes)
    computes = any(buffer.kind in ("KV", "RS") for buffer in host)
    promised = need.preempted + need.later + (need.host_work if computes else 0)
    by_driver = {device.uuid: device.bytes for device in use.devices}
    return Footprint(
        allocated + weights + use.process_bytes + promised,
        tuple(by_driver.get(uuid) or _by_engine(use, index, need) for index, uuid in enumerate(uuids)),
    )


def mapped_weights(use: MemoryUse, model_bytes: int) -> int:
    """Of the weights, those that are read where they lie in the page cache, in bytes. model_bytes: of all weights."""
    mapped = sum(buffer.bytes for buffer in use.buffers if is_mapped(buffer))
    elsewhere = sum(buffer.bytes for buffer in use.buffers if buffer.kind == "model") - mapped
    return min(mapped, max(0, model_bytes - elsewhere))


def file_key(path: str, size_bytes: int, sha256: str | None = None) -> str:
    """A file by its content where that is known, else by path and size."""
    return f"sha256:{sha256}" if sha256 else f"file:{size_bytes}:{path}"


def settings_key(spec: ModelSpec) -> str:
    """What of a spec decides about memory, GPUs included: an estimate is of one division of the layers."""
    parts: Mapping[str, object] = {
        name: getattr(spec, name)
        for name in (
            *("n_gpu_layers", "tensor_split", "n_ctx", "parallel", "kv", "n_batch", "n_ubatch"),
            *("cache_type_k", "cache_type_v", "flash_attn", "preempt_host_mib"),
        )
    }
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


def _by_engine(use: MemoryUse, index: int, need: MemoryEstimate) -> int:
    """What llama.cpp says it has of a GPU, where the driver does not tell; 0 where it has nothing."""
    own = sum(buffer.bytes for buffer in use.buffers if device_index(buffer.device) == index)
    return own + need.device_process if own else 0


def is_mapped(buffer: EngineBuffer) -> bool:
    return buffer.kind == "model" and is_host(buffer.device) and buffer.device.endswith("_Mapped")


def is_host(device: str) -> bool:
    """CPU, CPU_Mapped, CPU_REPACK, and memory of the host that a GPU may read: CUDA_Host."""
    return device.startswith("CPU") or device.endswith("_Host")


def device_index(device: str) -> int | None:
    """CUDA1 is the second GPU."""
    number = device[len(device.rstrip("0123456789")) :]
    return int(number) if number and not is_host(device) else None


def _drop_oldest(entries: dict[str, _Entry] | dict[str, dict[str, _Entry]], most: int) -> None:
    while len(entries) > most:
        del entries[next(iter(entries))]
