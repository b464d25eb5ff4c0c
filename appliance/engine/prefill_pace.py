"""How many prompt tokens a step may compute, so that the streams beside it keep flowing."""

from __future__ import annotations

from typing import Final

# While sequences decode, each prompt that is being computed may take this much time between two of their tokens, in
# units of the time of a decoding step. One prompt stretches the pause between tokens to 1 + PREFILL_SHARE.
_PREFILL_SHARE: Final = 1.5
# A step without decoders holds up nobody but newcomers and aborts.
_ALONE_SECONDS: Final = 0.5
# Fewer tokens are not worth a pass of the device.
_TOKENS_MIN: Final = 8
_SMOOTHING: Final = 0.3


class PrefillPace:
    """Learns from each step how long decoding and prompt tokens take, and sizes the next piece of a prompt.

    Pure: seconds are given, not measured. The cost of a token is that of recent pieces, whatever their size, so that
    pieces settle at the size that takes the time they may take.
    """

    def __init__(self, n_batch: int, n_ubatch: int) -> None:
        self._n_batch = n_batch
        self._n_ubatch = n_ubatch
        self._decode_seconds: float | None = None
        self._token_seconds: float | None = None

    def decoded(self, seconds: float) -> None:
        """A step of decoders took that long."""
        self._decode_seconds = _smooth(self._decode_seconds, seconds)

    def prefilled(self, tokens: int, seconds: float) -> None:
        """A step of `tokens` prompt tokens took that long."""
        if tokens >= _TOKENS_MIN:
            self._token_seconds = _smooth(self._token_seconds, seconds / tokens)

    def tokens(self, prompts: int, *, beside_decoders: bool) -> int:
        """Tokens of the next step of prompts, when `prompts` of them are being computed."""
        most = self._n_ubatch if beside_decoders else self._n_batch
        if self._token_seconds is None:
            return min(most, self._n_ubatch)
        if not beside_decoders:
            seconds = _ALONE_SECONDS
        elif self._decode_seconds is None:
            return most
        else:
            seconds = _PREFILL_SHARE * prompts * self._decode_seconds
        return max(_TOKENS_MIN, min(most, int(seconds / self._token_seconds)))


def _smooth(mean: float | None, value: float) -> float:
    return value if mean is None else mean + _SMOOTHING * (value - mean)
