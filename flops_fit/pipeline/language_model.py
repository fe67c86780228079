"""Language model: the trained weights, ready to write text and to score it; read from ``DIR/model`` alone.

Imports torch, safetensors and tokenizers; nothing that trains.
"""

# T sequence, V vocabulary

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from flops_fit.errors import InputError
from flops_fit.pipeline.architecture import TIED, architecture

BATCH = 32
FILES = ("config.json", "tokenizer.json", "final_model.safetensors")
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A trained model with its tokenizer."""

    model: nn.Module
    tokenizer: Tokenizer
    config: dict[str, Any]
    """What ``config.json`` holds."""

    @property
    def num_params(self) -> int:
        """N, the tied table counted once."""
        return sum(p.numel() for p in self.model.parameters())

    def generate(self, prompt: str, max_new_tokens: int = 100, temperature: float = 0.8, seed: int = 0) -> str:
        """Returns the prompt and its continuation by exactly ``max_new_tokens`` tokens; equal seeds give equal texts.

        Args:
            prompt: May be empty.
            max_new_tokens: At least 0. Special entries are never drawn.
            temperature: Of the distribution that tokens are drawn from; 0 takes the most likely one.
            seed: Of the draws.

        Raises:
            ValueError: If a number is out of range.
        """
        if max_new_tokens < 0 or temperature < 0:
            raise ValueError(
                f"got max_new_tokens={max_new_tokens} and temperature={temperature}, expected both 0 or more"
            )
        drawn = self.tokens(prompt, temperature, seed)
        return prompt + self.tokenizer.decode([token for _, token in zip(range(max_new_tokens), drawn, strict=False)])

    def tokens(self, prompt: str, temperature: float = 0.8, seed: int = 0) -> Iterator[int]:
        """Yields tokens after a prompt, without end."""
        return draw_tokens(self.model, self.tokenizer, prompt, temperature, seed)

    def loss(self, text: str) -> float:
        """Mean loss of a text, nats per token."""
        nats, count = self.score([text])
        return nats / count

    def bits_per_byte(self, text: str) -> float:
        """Bits that the model needs for each UTF-8 byte of a text."""
        nats, _ = self.score([text])
        return nats / math.log(2) / len(text.encode())

    def score(self, texts: Sequence[str]) -> tuple[float, int]:
        """Returns the loss in nats over all tokens of some texts, and their number.

        Each text stands between <bos> and <eos>, as in training; sequences follow one another without overlap, and
        <eos> counts.

        Raises:
            ValueError: If a text is empty.
        """
        if not all(texts):
            raise ValueError("got an empty text, expected at least one character")
        entries = self.tokenizer.get_vocab()
        bos, eos = entries["<bos>"], entries["<eos>"]
        ids = [i for e in self.tokenizer.encode_batch(list(texts)) for i in (bos, *e.ids, eos)]
        nats, count = score_tokens(self.model, ids, self.config["seq_len"])
        return nats, count


def load_model(directory: str | Path, weights: str = "final") -> LanguageModel:
    """Loads the model of a pipeline's folder.

    Args:
        directory: The ``--output-dir`` of the pipeline, or the folder ``model`` in it.
        weights: "final", or "best" for the lowest held-out loss during training.

    Raises:
        InputError: If the folder holds no model, or one that does not fit its configuration.
    """
    folder = Path(directory)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    files = [*FILES[:2], f"{weights}_model.safetensors"]
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder}: got no {', '.join(missing)}, expected a folder made by `flops-fit pipeline run`. "
            "Give its --output-dir."
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = {key: config[key] for key in ("d_model", "n_layer", "n_head", "vocab_size", "seq_len")}
    model = architecture().GPT(**shape)
    found = model.load_state_dict(load_file(folder / files[2]), strict=False)
    if found.unexpected_keys or set(found.missing_keys) - {TIED}:
        raise InputError(
            f"{folder / files[2]}: got weights without {found.missing_keys} and with {found.unexpected_keys}, expected "
            f"those of {config}. Train it again: `flops-fit pipeline train --resume`."
        )
    model.eval()
    return LanguageModel(model, Tokenizer.from_file(str(folder / "tokenizer.json")), config)


def draw_tokens(model: nn.Module, tokenizer: Tokenizer, prompt: str, temperature: float, seed: int) -> Iterator[int]:
    """Yields tokens after a prompt without end; the model's mode and the global generators stay as they are."""
    seq_len: int = model.config.seq_len  # type: ignore[assignment, union-attr]
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    special = [tokenizer.token_to_id(name) for name in SPECIALS]
    ids = [tokenizer.token_to_id("<bos>"), *tokenizer.encode(prompt).ids]
    while True:
        with torch.no_grad():
            logits_V = model(torch.tensor([ids[-seq_len:]], device=device))[0, -1].float().cpu()
        logits_V[special] = -torch.inf
        if temperature == 0:
            token = int(logits_V.argmax())
        else:
            token = int(torch.multinomial(F.softmax(logits_V / temperature, -1), 1, generator=generator))
        ids.append(token)
        yield token


def score_tokens(model: nn.Module, ids: Sequence[int], seq_len: int) -> tuple[float, int]:
    """Returns the summed loss of each token after the first, in nats, and how many they are."""
    tokens = torch.tensor(ids)
    count = len(ids) - 1
    whole = count // seq_len * seq_len
    inputs, targets = tokens[:whole].view(-1, seq_len), tokens[1 : whole + 1].view(-1, seq_len)
    total = _summed_loss(model, inputs, targets)
    if whole < count:
        total += _summed_loss(model, tokens[None, whole:-1], tokens[None, whole + 1 :])
    return total, count


def score_windows(model: nn.Module, windows_BT1: Tensor) -> float:
    """Returns the mean loss of sequences of T + 1 tokens, nats per token."""
    inputs, targets = windows_BT1[:, :-1], windows_BT1[:, 1:]
    return _summed_loss(model, inputs, targets) / targets.numel()


def _summed_loss(model: nn.Module, inputs_BT: Tensor, targets_BT: Tensor) -> float:
    total = 0.0
    pieces = zip(torch.split(inputs_BT, BATCH), torch.split(targets_BT, BATCH), strict=True)
    with torch.no_grad():
        for x_BT, y_BT in pieces:
            logits = model(x_BT).float().flatten(0, 1)
            total += float(F.cross_entropy(logits, y_BT.flatten(), reduction="sum"))
    return total
