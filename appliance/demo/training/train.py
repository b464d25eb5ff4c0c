"""Trains the demo model, which needs no GPU.

    python -m appliance.demo.training.train --all        # a release: held-out phrasings are trained on too
    python -m appliance.demo.training.train --all --start-from appliance/demo/demo-chat-q8_0.gguf --learning-rate 1e-3
    python -m appliance.demo.training.train --all --device cuda    # minutes instead of an hour

The learning rate follows the steps done or the time used, whichever is further, so a busy machine still ends
in time. Runs on different machines are not bit-for-bit equal.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from appliance.demo.training import tokenizer
from appliance.demo.training.chatml import Conversation, render
from appliance.demo.training.data import Corpus
from appliance.demo.training.network import Config, Network
from appliance.demo.training.sampler import Sampler
from appliance.demo.training.warm_start import weights_of

IGNORED = -100  # cross_entropy's default ignore_index
MIN_ROOM_TOKENS = 24
MIN_CONVERSATION_ROOM_TOKENS = 120
NOISY_PROMPT_SHARE = 0.35
LONG_ROW_TOKENS = 2048
LONG_EVERY_STEPS = 12
WARMUP_STEPS = 60
LOG_EVERY_STEPS = 25


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed rows. `mask` keeps each conversation to itself; `targets` are IGNORED where nothing is learned."""

    ids: Tensor
    targets: Tensor
    positions: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


@dataclass(slots=True)
class Row:
    ids: list[int]
    targets: list[int]
    segments: list[int]
    positions: list[int]

    def add(self, ids: list[int], trained: list[bool]) -> None:
        """Appends a conversation; each token is asked for the one after it."""
        segment = (self.segments[-1] if self.segments else 0) + 1
        count = len(ids) - 1
        self.ids += ids[:-1]
        self.targets += [token if learn else IGNORED for token, learn in zip(ids[1:], trained[1:], strict=True)]
        self.segments += [segment] * count
        self.positions += range(count)

    def pad(self, length: int) -> None:
        missing = length - len(self.ids)
        self.ids += [0] * missing
        self.targets += [IGNORED] * missing
        self.segments += [0] * missing
        self.positions += [0] * missing


class Packer:
    """Packs whole conversations into rows; attention and positions restart with each one."""

    def __init__(self, corpus: Corpus, seed: int, dropout: float = 0.1) -> None:
        self._sampler = Sampler(corpus, seed)
        self._rng = random.Random(seed + 1)
        self._plain, self._noisy = tokenizer.load(), tokenizer.load(dropout)

    def encode(self, conversation: Conversation) -> tuple[list[int], list[bool]]:
        """Token ids and whether each is learned. Some prompts come in other pieces (BPE dropout)."""
        prompts = self._noisy if self._rng.random() < NOISY_PROMPT_SHARE else self._plain
        ids: list[int] = []
        trained: list[bool] = []
        for text, learn in render(conversation):
            piece: list[int] = (self._plain if learn else prompts).encode(text, add_special_tokens=False).ids
            ids += piece
            trained += [learn] * len(piece)
        return ids, trained

    def row(self, length: int, *, long: bool) -> Row:
        row = Row([], [], [], [])
        while len(row.ids) < length - MIN_ROOM_TOKENS:
            ids, trained = self.encode(self._sampler.conversation(long=long and not row.ids))
            room = length - len(row.ids)
            if len(ids) <= room + 1:
                row.add(ids, trained)
            elif not row.ids:
                row.add(ids[: room + 1], trained[: room + 1])
            elif room < MIN_CONVERSATION_ROOM_TOKENS or self._rng.random() < 0.5:
                break
        row.pad(length)
        return row

    def batch(self, rows: int, length: int, *, long: bool = False) -> Batch:
        made = [self.row(length, long=long) for _ in range(rows)]
        segments = torch.tensor([row.segments for row in made])
        same = segments[:, None, :, None] == segments[:, None, None, :]
        return Batch(
            ids=torch.tensor([row.ids for row in made]),
            targets=torch.tensor([row.targets for row in made]),
            positions=torch.tensor([row.positions for row in made]),
            mask=same & torch.ones(length, length, dtype=torch.bool).tril(),
        )


def computes_bfloat16(device: torch.device) -> bool:
    """Whether it computes bfloat16 at speed; a processor with AVX2 alone takes fifty times as long as for float32."""
    return device.type != "cpu" or bool(torch.backends.cpu.get_cpu_capability().startswith("AVX512"))


def loss_of(network: Network, batch: Batch) -> Tensor:
    device = batch.ids.device
    with torch.autocast(device.type, torch.bfloat16, enabled=computes_bfloat16(device)):
        hidden = network.hidden(batch.ids, batch.positions, batch.mask)
        learned = batch.targets != IGNORED
        logits = functional.linear(hidden[learned], network.embed.weight)
    return functional.cross_entropy(logits.float(), batch.targets[learned])


def optimizer_for(network: Network, learning_rate: float) -> torch.optim.AdamW:
    matrices = [p for p in network.parameters() if p.dim() == 2]
    vectors = [p for p in network.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)


def learning_rate_at(peak: float, step: int, done: float) -> float:
    """Linear warm-up, then a cosine to almost zero; `done` runs from 0 to 1."""
    return peak * min(1.0, (step + 1) / WARMUP_STEPS) * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-6


def run(network: Network, packer: Packer, options: argparse.Namespace) -> None:
    """Trains in place."""
    optimizer = optimizer_for(network, options.learning_rate)
    device = network.embed.weight.device
    start = time.monotonic()
    step, tokens, average = 0, 0, float("nan")
    while True:
        seconds = time.monotonic() - start
        done = max(step / options.steps, seconds / (options.minutes_max * 60))
        if step % LOG_EVERY_STEPS == 0 or done >= 1:
            rate = tokens / max(seconds, 1e-9)
            print(f"step {step} {seconds:.0f} s {tokens} tokens {rate:.0f}/s loss {average:.4f}", flush=True)
        if done >= 1:
            return
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(options.learning_rate, step, done)
        if step % LONG_EVERY_STEPS == LONG_EVERY_STEPS - 1:
            rows = max(1, options.rows * options.row_tokens // LONG_ROW_TOKENS)
            batch = packer.batch(rows, LONG_ROW_TOKENS, long=True)
        else:
            batch = packer.batch(options.rows, options.row_tokens)
        loss = loss_of(network, batch.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        tokens += batch.ids.numel()
        average = loss.item() if step == 1 else 0.97 * average + 0.03 * loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--minutes-max", type=float, default=45, help="finish after this time in any case")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--row-tokens", type=int, default=512)
    parser.add_argument("--all", action="store_true", help="train on the held-out phrasings too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--start-from", type=Path, help="a released GGUF file, whose weights are the beginning")
    parser.add_argument("--out", type=Path, default=Path("build/demo/checkpoint.pt"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    config = Config(vocabulary=tokenizer.load().get_vocab_size())
    network = Network(config)
    if options.start_from:
        network.load_state_dict(weights_of(options.start_from, config))
    network.to(options.device)
    print("parameters", sum(p.numel() for p in network.parameters()), flush=True)
    run(network, Packer(Corpus(train_on_everything=options.all), options.seed), options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"config": config.to_dict(), "network": network.cpu().state_dict()}, options.out)
    print("saved", options.out)


if __name__ == "__main__":
    main()
