"""Models and machines for the tests of placement."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.gguf.facts import ModelFacts
from appliance.gguf.layers import Layer
from appliance.placement.estimate import Footprint
from appliance.placement.memory import Device, HostMemory, Loaded, Memory
from appliance.types import ModelSpec

MIB = 2**20
GIB = 2**30


def facts(layers: int = 8, layer_mib: int = 100, **changes: object) -> ModelFacts:
    """A dense model with a matrix of 50 MiB at either end."""
    fields: dict[str, object] = {
        "architecture": "llama",
        "name": None,
        "license": None,
        "quantisation": "Q4_0",
        "parameters": 1,
        "weight_bytes": (layers * layer_mib + 100) * MIB,
        "context_length": 131_072,
        "embedding_length": 1024,
        "vocabulary": 32_000,
        "layers": tuple(Layer(layer_mib * MIB, 16, 4) for _ in range(layers)),
        "key_length": 64,
        "value_length": 64,
        "sliding_window": 0,
        "recurrent": False,
        "experts": 0,
        "input_bytes": 50 * MIB,
        "output_bytes": 50 * MIB,
        "chat_template": None,
        "chat_template_sha256": None,
        "split": None,
        "feed_forward_length": 4096,
        "tensor_bytes_max": layer_mib * MIB // 4,
    }
    return ModelFacts(**(fields | changes))  # type: ignore[arg-type]


def spec(**changes: object) -> ModelSpec:
    """Nothing but an id, a path and what is changed."""
    return ModelSpec(id="new", path="new.gguf", **changes)  # type: ignore[arg-type]


def machine(host_mib: int, *devices_mib: int) -> Memory:
    """Everything on it is free."""
    return Memory(
        HostMemory(total_bytes=host_mib * MIB, available_bytes=host_mib * MIB),
        tuple(
            Device(uuid=f"GPU-{index}", name=f"GPU {index}", total_bytes=mib * MIB, free_bytes=mib * MIB)
            for index, mib in enumerate(devices_mib)
        ),
    )


def resident(
    model: str,
    host_mib: int,
    devices_mib: Sequence[int] = (),
    *,
    pinned: bool = False,
    busy: bool = False,
    used: float = 0,
) -> Loaded:
    """A model in memory."""
    taken = Footprint(host_mib * MIB, tuple(mib * MIB for mib in devices_mib))
    return Loaded(model=model, footprint=taken, pinned=pinned, busy=busy, last_used=used)
