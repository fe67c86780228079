"""A GPT on TinyStories, from Python: what scales, on which data, over which grid.

python examples/gpt_tinystories/example_programmatic.py                        # simulated losses, seconds
python examples/gpt_tinystories/example_programmatic.py --real --data stdlib   # trains 36 models, minutes
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from flops_fit.examples import reference
from flops_fit.examples.gpt_stdlib import GPT
from flops_fit.examples.gpt_stdlib.task import load_text
from flops_fit.examples.gpt_stdlib.text import SettingNames
from flops_fit.examples.gpt_tinystories import TinyStoriesDataset, gpt_loss_fn

from flops_fit.data import as_source
from flops_fit.tasks import make_task

if TYPE_CHECKING:
    from flops_fit.result import Result

DATA_HELP = "'stdlib', a folder of text, or the folder of a copy of TinyStories (default: the hub's)"
OUTPUT_DIR = "outputs/gpt_tinystories"
NAMES = SettingNames(text="--data", pattern="--pattern")

PRESET: dict[str, Any] = {
    # 1.5 decades. Six sizes, because one seed's loss is known to 1 or 2%, and a curve must outweigh that.
    "compute_budgets": [8e9, 1.6e10, 3.2e10, 6.4e10, 1.28e11, 2.56e11],
    "num_sizes_per_budget": 6,
    "min_size": 4,
    "max_size": 96,
    "size_multiple": 2,
    "center_tokens_per_param": 50,
    "half_width": 4,
    # Smaller sizes than the upper bound allows would take the most steps and say the least.
    "limits": {"min_tokens_per_param": 1, "max_tokens_per_param": 400, "max_epochs": 4},
    "recipe": {
        "reference_params": 10000,
        "learning_rate": 0.012,
        "learning_rate_exponent": -0.5,
        "max_learning_rate": 0.03,
        "batch_tokens": 512,
        "batch_exponent": 0,
    },
}
"""Settings of the sweep (`SweepSettings`), the same for all data."""


def make_model_factory(
    *, n_layer: int = 2, n_head: int = 2, vocab_size: int = 257, seq_len: int = 64
) -> Callable[[int], GPT]:
    """Returns ``gpt(d_model)``: a GPT of that width and this shape."""

    def gpt(d_model: int) -> GPT:
        return GPT(d_model, n_layer=n_layer, n_head=n_head, vocab_size=vocab_size, seq_len=seq_len)

    return gpt


class _SyntheticTokens(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Noisy counters, each made when it is read: the next token is the last plus one, nine times in ten."""

    def __init__(self, num_samples: int, seq_len: int, vocab_size: int, seed: int) -> None:
        self.num_samples, self.seq_len, self.vocab_size, self.seed = num_samples, seq_len, vocab_size, seed

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= i < self.num_samples:
            raise IndexError(f"sample {i} of {self.num_samples}")
        rng = np.random.default_rng([self.seed, i])
        steps = np.where(rng.random(self.seq_len) < 0.9, 1, rng.integers(self.vocab_size, size=self.seq_len))
        tokens = torch.from_numpy(np.cumsum([rng.integers(self.vocab_size), *steps]) % self.vocab_size)
        return tokens[:-1], tokens[1:]


def _make_synthetic_dataset(
    num_samples: int = 200_000, seq_len: int = 64, vocab_size: int = 257, seed: int = 0
) -> _SyntheticTokens:
    """Returns data of the shape of the real ones: 12.8M tokens unless told otherwise, so that no run repeats them."""
    return _SyntheticTokens(num_samples, seq_len, vocab_size, seed)


def load_data(real: bool, data: str | None, pattern: str, seq_len: int) -> tuple[Any, Any, int, str]:
    """Returns training data, held-out data, V, and a name for the report.

    Raises:
        ConfigError: If a text or a copy of TinyStories cannot be used, or the hub is out of reach.
    """
    if data == "stdlib":
        return *load_text(seq_len=seq_len, names=NAMES), 256, "GPT on Python's standard library"
    copy = "roneneldan/TinyStories"
    if data is not None:
        folder = Path(data).expanduser()
        if not folder.is_dir() or not any(folder.rglob("*.parquet")):
            text = load_text(text_dir=data, pattern=pattern, seq_len=seq_len, names=NAMES)
            return *text, 256, f"GPT on {folder.resolve().name}"
        copy = str(folder)
    if not real and data is None:
        train = _make_synthetic_dataset(seq_len=seq_len)
        held_out = _make_synthetic_dataset(1000, seq_len, seed=1)
        return train, held_out, train.vocab_size, "GPT on synthetic tokens"
    stories, held_out_stories = (TinyStoriesDataset(split, seq_len, name=copy) for split in ("train", "validation"))
    return stories, held_out_stories, stories.vocab_size, "GPT on TinyStories"


def run(
    real: bool = False,
    data: str | None = None,
    output_dir: str | Path | None = None,
    *,
    pattern: str = "**/*.txt",
    seed: int = 0,
    n_layer: int = 2,
    n_head: int = 2,
    seq_len: int = 64,
    **grid: Any,
) -> "Result":
    """Sweeps the GPT's width and returns the fitted laws.

    Args:
        real: True trains; False simulates the losses, without a forward pass.
        data: None for TinyStories from the hub (synthetic tokens where nothing is trained), "stdlib", a text file, a
            folder of text, or a folder with a copy of TinyStories.
        output_dir: Folder of the sweep.
        pattern: Which files of a folder of text, a glob.
        seed: Of weights, data order and simulated noise.
        n_layer, n_head, seq_len: Shape of the model.
        **grid: Settings in place of `PRESET`'s: budgets, min_size, max_size, size_multiple, num_sizes.
    """
    settings = reference.sweep_settings(PRESET, **grid)
    train, held_out, vocab_size, name = load_data(real, data, pattern, seq_len)
    task = make_task(
        make_model_factory(n_layer=n_layer, n_head=n_head, vocab_size=vocab_size, seq_len=seq_len),
        "d_model",
        train_data=as_source(train),
        eval_data=as_source(held_out),
        loss_fn=gpt_loss_fn,
        name=name,
    )
    return reference.sweep(task, settings, real=real, output_dir=output_dir, default_dir=OUTPUT_DIR, seed=seed)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it with the flags of every reference family; returns the exit code."""
    return reference.run_command(run, reference.make_parser(__doc__.splitlines()[0], data_help=DATA_HELP), argv)


if __name__ == "__main__":
    sys.exit(main())
