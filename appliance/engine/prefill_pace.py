"""How many tokens of a prompt a step may compute, so that the streams beside it keep flowing."""

from __future__ import annotations

from typing import Final

from appliance.engine.piece_costs import PieceCosts, smooth

# While sequences decode, each prompt that is being computed may take this much time between two of their tokens, in
# units of the time of a decoding step. One long prompt stretches the pause between tokens to 1 + _SHARE.
_SHARE: Final = 1.5
# What is left of a prompt is computed at once where that is half a pass of the device and no longer than this: one
# short pause of the streams instead of many, and a device that works on enough tokens at a time.
_AT_ONCE_SECONDS: Final = 1.5
# A step without decoders holds up nobody but newcomers and aborts.
_ALONE_SECONDS: Final = 0.5
# Fewer tokens are not worth a pass of the device.
_TOKENS_MIN: Final = 4
# A piece of this size makes good use of a device; it is taken where it stretches the pause between tokens no further.
_EFFICIENT_TOKENS: Final = 128
_STRETCH_MAX: Final = 4.0
# From this size on a piece is computed in tiles, by llama.cpp's attention on a CPU: a token costs a fraction then.
_LARGE_TOKENS: Final = 64
# By how much a token of a small piece is dearer, measured: three to five times.
_SMALL_IS_DEARER: Final = 4
# A device that takes most of its time for any piece at all gets larger ones, up to _STRETCH_MAX, where a token then
# costs no more than this part.
_WORTH_COST_MAX: Final = 0.6


class PrefillPace:
    """Learns from each step how long decoding and prompt tokens take, and sizes the next piece of a prompt.

    Pure: seconds are given, not measured. The cost of a token is that of recent pieces, large and small ones apart, so
    that pieces settle at the size that takes the time they may take. Attention makes a token dearer the deeper it is:
    `own_seconds` is what `prefilled` said of a prompt's last piece, 0 before its first, and counts where it is more.
    """

    def __init__(self, n_batch: int, n_ubatch: int) -> None:
        self._n_batch = n_batch
        self._n_ubatch = n_ubatch
        self._decode_seconds: float | None = None
        self._large_seconds: float | None = None
        self._small_seconds: float | None = None
        self._costs = PieceCosts()

    def decoded(self, seconds: float) -> None:
        """A step of decoders took that long."""
        self._decode_seconds = smooth(self._decode_seconds, seconds)

    def prefilled(self, tokens: int, seconds: float) -> float:
        """A step of `tokens` prompt tokens took that long. Returns what a token of a large piece costs there, about."""
        each = seconds / tokens
        self._costs.note(tokens, seconds)
        if tokens >= _LARGE_TOKENS:
            self._large_seconds = smooth(self._large_seconds, each)
            return each
        if tokens >= _TOKENS_MIN:
            self._small_seconds = smooth(self._small_seconds, each)
            if self._large_seconds is not None:
                # No token of a large piece is dearer. One slow large piece must not keep large ones from being tried.
                self._large_seconds = min(self._large_seconds, each)
        return each / _SMALL_IS_DEARER

    def at_once(self, left: int, own_seconds: float = 0.0) -> bool:
        """Whether the last `left` tokens of a prompt are few enough to be computed in one piece, whoever decodes."""
        each = max(self._large_seconds or 0.0, own_seconds)
        return left <= self._n_ubatch // 2 and left * each <= _AT_ONCE_SECONDS

    def piece(self, left: int, prompts: int, *, beside_decoders: bool, own_seconds: float = 0.0) -> int:
        """Tokens to compute of a prompt with `left` of them, when `prompts` of them are under way."""
        if self.at_once(left, own_seconds):
            return left
        if not beside_decoders:
            tokens = min(self._n_batch, max(_EFFICIENT_TOKENS, self._tokens_in(_ALONE_SECONDS, own_seconds)))
        elif self._decode_seconds is None:
            tokens = self._n_ubatch
        else:
            tokens = self._beside(prompts * self._decode_seconds, own_seconds)
        return min(left, max(_TOKENS_MIN, tokens))

    def _beside(self, seconds: float, own_seconds: float) -> int:
        """Tokens beside decoders, whose step takes `seconds` for each prompt under way."""
        tokens = self._tokens_in(_SHARE * seconds, own_seconds)
        if tokens < _EFFICIENT_TOKENS <= self._tokens_in(_STRETCH_MAX * seconds, own_seconds):
            tokens = _EFFICIENT_TOKENS
        return min(self._n_ubatch, self._worth(max(_TOKENS_MIN, tokens), _STRETCH_MAX * seconds, own_seconds))

    def _worth(self, tokens: int, seconds: float, own_seconds: float) -> int:
        """The most that `seconds` suffice for, where its tokens are much cheaper than those of a piece of `tokens`."""
        larger = min(self._n_ubatch, self._costs.most_within(seconds))
        if own_seconds:
            larger = min(larger, int(seconds / own_seconds))
        if larger <= tokens:
            return tokens
        now, then = self._costs.each(tokens), self._costs.each(larger)
        assert now is not None and then is not None, "a size within the time is known"
        return larger if then <= _WORTH_COST_MAX * now else tokens

    def _tokens_in(self, seconds: float, own_seconds: float) -> int:
        """How many tokens take that long; a pass of the device while nothing is known."""
        if self._large_seconds is None:
            return self._n_ubatch
        if (large := int(seconds / max(self._large_seconds, own_seconds))) >= _LARGE_TOKENS:
            return large
        small = max(self._small_seconds or self._large_seconds, own_seconds)
        return min(_LARGE_TOKENS - 1, int(seconds / small))
