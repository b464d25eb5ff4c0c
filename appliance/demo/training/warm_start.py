"""The weights of a released file as the beginning of a training with changed texts."""

from __future__ import annotations

from pathlib import Path

import gguf
import torch
from tokenizers import models
from torch import Tensor

from appliance.demo.training import tokenizer
from appliance.demo.training.export import tensor_names
from appliance.demo.training.network import Config


def weights_of(path: Path, config: Config) -> dict[str, Tensor]:
    """Our parameters by name, float32, with the embedding in the order of today's tokenizer.

    A token that the file does not have begins as the mean of the pieces that the file's tokenizer makes of it.
    Raises KeyError where the file lacks a tensor; a file of another shape is refused by `load_state_dict`.
    """
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    found = {ours: tensors[theirs] for ours, theirs in tensor_names(config.layers).items()}
    weights = {
        name: torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        for name, tensor in found.items()
    }
    tokens: list[str] = reader.fields["tokenizer.ggml.tokens"].contents()
    merges: list[str] = reader.fields["tokenizer.ggml.merges"].contents()
    weights["embed.weight"] = _reordered(weights["embed.weight"], tokens, merges)
    return weights


def _reordered(rows: Tensor, tokens: list[str], merges: list[str]) -> Tensor:
    ids = {token: index for index, token in enumerate(tokens)}
    pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in merges)]
    pieces = models.BPE(ids, pairs)
    now = tokenizer.load().get_vocab(with_added_tokens=True)
    made = [
        rows[ids[token]] if token in ids else rows[[piece.id for piece in pieces.tokenize(token)]].mean(0)
        for token in sorted(now, key=now.__getitem__)
    ]
    return torch.stack(made)
