"""Writes a checkpoint as a GGUF file for llama.cpp, and its SHA256SUMS line.

python -m appliance.demo.training.export --checkpoint build/demo/checkpoint.pt
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import gguf
import torch

from appliance.demo.training import tokenizer
from appliance.demo.training.chatml import CHAT_TEMPLATE, END
from appliance.demo.training.network import Config

FILE_TYPES: Final = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
NAME: Final = "LLM appliance demo chat"
DESCRIPTION: Final = (
    "Tiny demo model that proves an installation. It only knows this appliance, in English and Chinese, "
    "and is not useful for anything else."
)
AUTHOR: Final = "the makers of the LLM appliance"
LICENSE: Final = "demo only"
# Our parameter name: llama.cpp's tensor name, for each block.
BLOCK_TENSORS: Final = {
    "attn_norm.weight": "attn_norm.weight",
    "ffn_norm.weight": "ffn_norm.weight",
    "q.weight": "attn_q.weight",
    "q.bias": "attn_q.bias",
    "k.weight": "attn_k.weight",
    "k.bias": "attn_k.bias",
    "v.weight": "attn_v.weight",
    "v.bias": "attn_v.bias",
    "o.weight": "attn_output.weight",
    "gate.weight": "ffn_gate.weight",
    "up.weight": "ffn_up.weight",
    "down.weight": "ffn_down.weight",
}


def tensor_names(layers: int) -> dict[str, str]:
    names = {"embed.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
    for layer in range(layers):
        names |= {f"blocks.{layer}.{ours}": f"blk.{layer}.{theirs}" for ours, theirs in BLOCK_TENSORS.items()}
    return names


def token_type(text: str) -> gguf.TokenType:
    if text in tokenizer.CONTROL:
        return gguf.TokenType.CONTROL
    return gguf.TokenType.USER_DEFINED if text in tokenizer.USER_DEFINED else gguf.TokenType.NORMAL


def add_general(writer: gguf.GGUFWriter) -> None:
    writer.add_name(NAME)
    writer.add_description(DESCRIPTION)
    writer.add_author(AUTHOR)
    writer.add_license(LICENSE)
    writer.add_tags(["demo"])
    writer.add_languages(["en", "zh"])


def add_shape(writer: gguf.GGUFWriter, config: Config) -> None:
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.feed_forward)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_layer_norm_rms_eps(config.epsilon)


def add_tokenizer(writer: gguf.GGUFWriter) -> None:
    model = json.loads(tokenizer.TOKENIZER_PATH.read_text(encoding="utf-8"))["model"]
    ids: dict[str, int] = model["vocab"]
    tokens = sorted(ids, key=ids.__getitem__)
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError("the token ids have gaps")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([token_type(token) for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(ids["<|endoftext|>"])
    writer.add_eos_token_id(ids[END])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def export(weights: Mapping[str, torch.Tensor], config: Config, path: Path, file_type: str) -> None:
    """Writes `path`; vectors stay in F32. Raises ValueError on a parameter without a place in the file."""
    names = tensor_names(config.layers)
    if set(names) != set(weights):
        raise ValueError(f"parameters do not match: {sorted(set(names) ^ set(weights))}")
    tensor_type, llama_file_type = FILE_TYPES[file_type]
    writer = gguf.GGUFWriter(str(path), "qwen2")
    add_general(writer)
    add_shape(writer, config)
    writer.add_file_type(llama_file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tokenizer(writer)
    for ours, theirs in names.items():
        data = weights[ours].float().numpy()
        if data.ndim == 1:
            writer.add_tensor(theirs, data)
        else:
            writer.add_tensor(theirs, gguf.quants.quantize(data, tensor_type), raw_dtype=tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("build/demo/checkpoint.pt"))
    parser.add_argument("--type", choices=sorted(FILE_TYPES), default="q8_0")
    parser.add_argument("--out", type=Path, help="default: demo-chat-TYPE.gguf next to the checkpoint")
    options = parser.parse_args()
    path: Path = options.out or options.checkpoint.with_name(f"demo-chat-{options.type}.gguf")
    saved = torch.load(options.checkpoint, weights_only=True)
    export(saved["network"], Config(**saved["config"]), path, options.type)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name("SHA256SUMS").write_text(f"{digest}  {path.name}\n", encoding="ascii")
    print(path, path.stat().st_size, "bytes, SHA-256", digest)


if __name__ == "__main__":
    main()
