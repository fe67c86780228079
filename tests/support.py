"""Models, data and paths that several test modules share."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from flops_fit.records import Experiment, Recipe

REPO = Path(__file__).parents[1]


class TinyLM(nn.Module):
    """A one-layer language model over 16 symbols; a user's own class, without num_params()."""

    def __init__(self, width: int, vocab_size: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width)
        self.mix = nn.Linear(width, width)
        self.head = nn.Linear(width, vocab_size)

    def forward(self, tokens_BT):
        return self.head(torch.tanh(self.mix(self.embed(tokens_BT))))


class ChainData(torch.utils.data.Dataset):
    """Sequences of a noisy counter: the next symbol is the last plus one, nine times in ten."""

    def __init__(self, size: int = 512, length: int = 16, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        steps = (torch.rand(size, length + 1, generator=rng) < 0.9).long()
        start = torch.randint(16, (size, 1), generator=rng)
        self.tokens = (start + steps.cumsum(1)) % 16

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, i):
        return self.tokens[i, :-1], self.tokens[i, 1:]


class Interrupted(ChainData):
    """Is interrupted once, when so many samples have been taken."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def __getitem__(self, i):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().__getitem__(i)


def sequence_loss(logits_BTV, targets_BT):
    return nn.functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())


RECIPE = Recipe(batch_tokens=128, learning_rate=0.01, warmup_tokens=256, schedule="wsd")


def make_experiment(**changes):
    values = {
        "experiment_id": "tiny", "compute_budget": 1e6, "size_param_value": 8, "num_params": 344,
        "num_params_non_embedding": 216, "num_tokens": 16 * 150, "flops_per_token": 1200.0,
        "measured_flops_per_token": 1200.0, "tokens_per_sample": 16, "recipe": RECIPE, "seed": 0,
    }  # fmt: skip
    recipe = {k: changes.pop(k) for k in list(changes) if k in Recipe.__dataclass_fields__}
    return Experiment(**(values | {"recipe": replace(RECIPE, **recipe)} | changes))
