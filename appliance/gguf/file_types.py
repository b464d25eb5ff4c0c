"""What a whole model file is quantised to: llama.cpp's llama_ftype, by the names people call files by."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from appliance.errors import GgufError
from appliance.safe_text import safe_text

# llama_ftype of llama.cpp's include/llama.h.
FILE_TYPES: Final = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4",
    39: "NVFP4",
    40: "Q1_0",
}
_NUMBERS: Final = {name: number for number, name in FILE_TYPES.items()}

# What can be made of a model by itself, largest first, and the type that most of its weights then have.
_TARGETS: Final = {
    "F16": "F16",
    "BF16": "BF16",
    "Q8_0": "Q8_0",
    "Q6_K": "Q6_K",
    "Q5_1": "Q5_1",
    "Q5_K_M": "Q5_K",
    "Q5_K_S": "Q5_K",
    "Q5_0": "Q5_0",
    "Q4_1": "Q4_1",
    "Q4_K_M": "Q4_K",
    "Q4_K_S": "Q4_K",
    "Q4_0": "Q4_0",
    "IQ4_NL": "IQ4_NL",
    "IQ4_XS": "IQ4_XS",
    "Q3_K_L": "Q3_K",
    "Q3_K_M": "Q3_K",
    "IQ3_M": "IQ3_S",
    "IQ3_S": "IQ3_S",
    "Q3_K_S": "Q3_K",
    "Q2_K": "Q2_K",
}
# llama.cpp's quantiser refuses these without one.
_NEED_MATRIX: Final = {"IQ3_XS", "IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ1_S", "IQ1_M", "Q2_K_S"}
_SHORT: Final = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}

KNOWN: Final = ", ".join(name.lower() for name in _TARGETS)


class FileType(Struct, frozen=True):
    """name: in capitals. number: llama.cpp's. base: the type of most weights, by its name in TENSOR_TYPES."""

    name: str
    number: int
    base: str


def file_type(text: str) -> FileType:
    """A type that a model can be quantised to, by its name in either case. Raises GgufError that names them all."""
    said = text.upper()
    name = _SHORT.get(said, said)
    if name in _NEED_MATRIX:
        raise GgufError(
            f"{name.lower()} needs an importance matrix, which is measured with texts and is not made here; quantise "
            "to it elsewhere and import that, or choose iq4_xs, q3_k_m or q2_k"
        )
    if name not in _TARGETS:
        raise GgufError(f"{safe_text(text)!r} is no type that a model can be quantised to; there are {KNOWN}")
    return FileType(name, _NUMBERS[name], _TARGETS[name])
