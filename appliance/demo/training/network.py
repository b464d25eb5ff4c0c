"""A small Qwen2 network in PyTorch, written to match llama.cpp's qwen2 graph exactly.

PyTorch is absent where types are checked, hence the three `type: ignore[misc]`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Config:
    """Shape of the network. Every row length is a multiple of 32, the block size of Q8_0."""

    vocabulary: int = 4096
    width: int = 256
    layers: int = 5
    heads: int = 4  # head size 64: supported by every flash attention kernel
    kv_heads: int = 2
    feed_forward: int = 704
    context: int = 2048
    rope_base: float = 10000.0
    epsilon: float = 1e-6

    @property
    def head_size(self) -> int:
        return self.width // self.heads

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


class RMSNorm(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


def rope_tables(config: Config) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each of shape (context, head_size / 2)."""
    steps = torch.arange(0, config.head_size, 2).float() / config.head_size
    angles = torch.outer(torch.arange(config.context).float(), config.rope_base**-steps)
    return angles.cos(), angles.sin()


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates (batch, heads, time, head_size) in the NeoX convention, which llama.cpp uses for qwen2."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Block(nn.Module):  # type: ignore[misc]
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, kv_width = config.width, config.kv_heads * config.head_size
        self.attn_norm = RMSNorm(width, config.epsilon)
        self.ffn_norm = RMSNorm(width, config.epsilon)
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, kv_width)
        self.v = nn.Linear(width, kv_width)
        self.o = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, config.feed_forward, bias=False)
        self.up = nn.Linear(width, config.feed_forward, bias=False)
        self.down = nn.Linear(config.feed_forward, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self._attention(self.attn_norm(x), cos, sin, mask)
        hidden = self.ffn_norm(x)
        return x + self.down(functional.silu(self.gate(hidden)) * self.up(hidden))

    def _attention(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        config, (batch, time, width) = self.config, x.shape
        q = self.q(x).view(batch, time, config.heads, config.head_size).transpose(1, 2)
        k = self.k(x).view(batch, time, config.kv_heads, config.head_size).transpose(1, 2)
        v = self.v(x).view(batch, time, config.kv_heads, config.head_size).transpose(1, 2)
        q, k = rope(q, cos, sin), rope(k, cos, sin)
        repeats = config.heads // config.kv_heads
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        # Rotation with float32 tables leaves bfloat16; v must follow.
        y = functional.scaled_dot_product_attention(q, k, v.to(q.dtype), attn_mask=mask, is_causal=mask is None)
        return self.o(y.transpose(1, 2).reshape(batch, time, width))


class Network(nn.Module):  # type: ignore[misc]
    """The embedding is also the output matrix."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.epsilon)
        cos, sin = rope_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if name == "embed.weight":
                nn.init.normal_(parameter, std=0.03)
            elif name.endswith(("o.weight", "down.weight")):  # these feed the residual stream
                nn.init.normal_(parameter, std=0.02 / (2 * self.config.layers) ** 0.5)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def hidden(self, ids: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Hidden states of (batch, time) token ids.

        mask: True where attention is allowed; None means plain causal attention.
        positions: None means 0, 1, 2, … in each row.
        """
        if positions is None:
            cos, sin = self.cos[None, None, : ids.shape[1]], self.sin[None, None, : ids.shape[1]]
        else:
            cos, sin = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        normed: Tensor = self.norm(x)
        return normed

    def forward(self, ids: Tensor) -> Tensor:
        return functional.linear(self.hidden(ids), self.embed.weight)
