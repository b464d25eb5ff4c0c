"""What a load is tried with again that lacked memory. Pure.

Nothing that was promised to clients changes: neither the context nor the cells, and no type of the cache. First fewer
layers go to the GPUs, where their number was left to us; then a pass takes fewer tokens, which makes prompts slower.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from appliance.errors import MemoryLack
from appliance.placement.estimate import MIB
from appliance.types import ModelSpec

# What may be otherwise in how a model is loaded than in how it is configured: `place.placed_spec`, and `Attempt.spec`.
PLACED: Final = ("n_gpu_layers", "tensor_split", "n_ubatch")
RETRIES_MAX: Final = 4
N_UBATCH_MIN: Final = 128
# What an estimate is raised by at least: less than a layer of a small model moves nothing.
_RAISE_BYTES_MIN: Final = 512 * MIB
_RAISE_BYTES_MAX: Final = 4096 * MIB


class Attempt(Struct, frozen=True, kw_only=True):
    """retries: before this one. n_ubatch: in place of the configured one. device_bytes: what each GPU is expected to
    need beyond its estimate, for what earlier attempts of this load lacked.
    """

    retries: int = 0
    n_ubatch: int | None = None
    device_bytes: int = 0

    def spec(self, asked: ModelSpec) -> ModelSpec:
        """What is to be placed."""
        return asked if self.n_ubatch is None else replace(asked, n_ubatch=self.n_ubatch)

    def words(self, placed: ModelSpec) -> str:
        """What is smaller, as in `it runs with …`; empty where nothing is. placed: as it is loaded."""
        layers = f"only {placed.n_gpu_layers} layers on GPUs" if self.device_bytes else ""
        ubatch = "" if self.n_ubatch is None else f"n_ubatch {self.n_ubatch}"
        return " and ".join(filter(None, (layers, ubatch)))


def next_attempt(asked: ModelSpec, placed: ModelSpec, lack: MemoryLack, last: Attempt) -> Attempt | None:
    """None where nothing smaller would help. asked: as it is configured. placed: as `last` was loaded."""
    if last.retries >= RETRIES_MAX:
        return None
    following = replace(last, retries=last.retries + 1)
    divided = asked.n_gpu_layers == "auto" and placed.n_gpu_layers not in ("auto", 0)
    if divided and not lack.on_host:
        raised = min(max(lack.bytes // 4, _RAISE_BYTES_MIN), _RAISE_BYTES_MAX) << last.retries
        return replace(following, device_bytes=last.device_bytes + raised)
    # Weights and cells take the same whatever a pass does.
    if lack.part == "compute" and placed.n_ubatch > N_UBATCH_MIN:
        return replace(following, n_ubatch=max(placed.n_ubatch // 2, N_UBATCH_MIN))
    return None
