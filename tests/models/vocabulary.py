"""The vocabulary the test models share: byte tokens, letters and numbered words.

A word is the text `[000]` to `[255]` and one token, so that a lost, repeated or reordered token shows in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import gguf

WORDS: Final = 256
LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
SPACE: Final = "\u2581"

_CONTROL: Final = ("<unk>", "<s>", "</s>")
_BYTES: Final = tuple(f"<0x{byte:02X}>" for byte in range(256))


def word(index: int) -> str:
    """The text of a word token; counts modulo WORDS."""
    return f"[{index % WORDS:03d}]"


TOKENS: Final = (*_CONTROL, *_BYTES, *LETTERS, SPACE, *(word(index) for index in range(WORDS)))
N_VOCAB: Final = (len(TOKENS) + 63) // 64 * 64
ID: Final = {token: index for index, token in enumerate(TOKENS)}
BOS: Final = ID["<s>"]
EOS: Final = ID["</s>"]


def add_tokenizer(writer: Any, controls: Sequence[str] = (), pieces: Sequence[str] = ()) -> None:
    """Writes the tokenizer metadata; fills the vocabulary up to N_VOCAB with tokens that are never chosen.

    controls: control tokens in the place of the first of those. pieces: texts in the place of the first words.
    """
    types = gguf.TokenType
    unused = [*controls, *(f"<unused{index}>" for index in range(N_VOCAB - len(TOKENS) - len(controls)))]
    writer.add_tokenizer_model("llama")
    first_word = len(TOKENS) - WORDS
    writer.add_token_list([*TOKENS[:first_word], *pieces, *TOKENS[first_word + len(pieces) :], *unused])
    writer.add_token_scores([0.0] * N_VOCAB)
    writer.add_token_types(
        [types.UNKNOWN, types.CONTROL, types.CONTROL]
        + [types.BYTE] * len(_BYTES)
        + [types.NORMAL] * (len(LETTERS) + 1)
        + [types.USER_DEFINED] * WORDS
        + [types.CONTROL] * len(controls)
        + [types.UNUSED] * (len(unused) - len(controls))
    )
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(ID["<unk>"])
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
