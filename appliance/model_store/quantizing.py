"""What an imported model can be quantised to: decided from its manifest and its header, before anything is written.

manifest and header → type → types of tensors → smaller? → room → worker → hash → trial → manifest → name
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal

from appliance.errors import ChangeRefused, GgufError
from appliance.gguf.facts import ModelFacts, facts_of
from appliance.gguf.file_types import FileType, file_type
from appliance.gguf.header import GgufHeader
from appliance.gguf.quantised import quantised, quantised_again
from appliance.gguf.split import SUFFIX
from appliance.model_store.hashes import sums_text
from appliance.model_store.manifest import Manifest
from appliance.model_store.names import check_name
from appliance.types import QuantizeOrder

# Makes the file of an order, and tells how many bytes of it there are. Raises LoadError, LoadCrash where a worker died
# of it or got stuck, OSError where there is none, and what it is told while it tells.
Quantizer = Callable[[QuantizeOrder, Callable[[int], None]], Awaitable[None]]

# What may be wrong with the foreseen size: what the quantiser does for single architectures.
SLACK_BYTES: Final = 2**20
SLACK_SHARE: Final = 0.05
# How files say at the end of their names what they are.
_TYPE_SUFFIX: Final = re.compile(r"[-._](?:f|fp|bf)(?:16|32)$|[-._]i?q[0-9](?:_[0-9klmsx]+)*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class QuantizeRequest:
    """name: of an imported model. to: a type's name. new_name: None for one that says the type."""

    name: str
    to: str
    new_name: str | None = None
    requantize: bool = False
    threads: int | Literal["auto"] = "auto"


@dataclass(frozen=True, slots=True)
class QuantizePlan:
    """source: as it is now. file: the new one's name. header, facts: as they will be."""

    name: str
    file: str
    source: Manifest
    to: FileType
    header: GgufHeader
    facts: ModelFacts
    threads: int | Literal["auto"]

    @property
    def bytes(self) -> int:
        """About what the new file will have."""
        return self.header.file_bytes

    @property
    def bytes_max(self) -> int:
        """It is given up where it would be larger."""
        return int(self.bytes * (1 + SLACK_SHARE)) + SLACK_BYTES


def plan_quantize(
    request: QuantizeRequest, source: Manifest, header: GgufHeader, *, require_signature: bool
) -> QuantizePlan:
    """header: of all the source's files. Raises ChangeRefused with the reason why it cannot or should not be done."""
    if require_signature:
        raise ChangeRefused(
            "invalid",
            "models.require_signature is on, and nobody would have signed what is quantised here; quantise it where "
            "models are signed (`llama-quantize`), sign that with `appliance models pack --sign`, and import it",
        )
    try:
        to = file_type(request.to)
        made = quantised(header, to)
        before, after = facts_of(header), facts_of(made)
    except GgufError as error:
        raise ChangeRefused("invalid", str(error)) from None
    name = check_name(request.new_name or new_name(source.name, to), "a model's name")
    if after.weight_bytes >= before.weight_bytes:
        raise ChangeRefused(
            "invalid",
            f"{source.name} is {source.quantisation}, with {_mib(before)} of weights; as {to.name} it would have "
            f"{_mib(after)}, which is no less",
        )
    lost = quantised_again(header, made)
    if lost and not request.requantize:
        raise ChangeRefused(
            "invalid",
            f"{source.name} has weights of {', '.join(lost)} already, and quantising again loses more quality than a "
            "file of that size need lose; start from a model in f16, bf16 or q8_0, or say --requantize",
        )
    return QuantizePlan(
        name=name,
        file=check_name(f"{name}{SUFFIX}", "a model's file"),
        source=source,
        to=to,
        header=made,
        facts=after,
        threads=request.threads,
    )


def new_name(name: str, to: FileType) -> str:
    """`qwen3-8b-f16` becomes `qwen3-8b-q4_k_m`."""
    return f"{_TYPE_SUFFIX.sub('', name)}-{to.name.lower()}"


def origin_sha256(manifest: Manifest) -> str:
    """Hex: of the model's file; of a split model, of its SHA256SUMS."""
    hashes = manifest.hashes
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return sha256(sums_text(hashes)).hexdigest()


def quantize_failure(error: Exception) -> ChangeRefused:
    """Of a worker that could not."""
    return ChangeRefused("invalid", f"it could not be quantised, and nothing of it is left: {error}")


def _mib(facts: ModelFacts) -> str:
    return f"{facts.weight_bytes / 2**20:.1f} MiB"
