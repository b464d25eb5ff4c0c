"""A vocabulary in which each character is a token."""

from __future__ import annotations

from appliance.types import Reading

SPECIAL = {"<s>": 1, "</s>": 2}


class FakeTokenizer:
    """A Tokenizer. separators: as RoBERTa has them, or none."""

    def __init__(self, *, separators: bool = True) -> None:
        self.size = 200
        self.piece_bytes_max = 4
        self.prefix = [1] if separators else []
        self.suffix = [2] if separators else []
        self.separator = [2, 2] if separators else []
        self.special = SPECIAL

    def whole(self, text: str) -> list[int]:
        return [*self.prefix, *self.plain(text), *self.suffix]

    def read(self, text: str, reading: Reading) -> list[int]:
        return self.whole(text) if reading.add_special else self.plain(text)

    def written(self, token: int) -> bytes:
        return chr(token).encode()

    def plain(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]
