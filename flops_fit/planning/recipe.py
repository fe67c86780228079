"""The recipe of a run: how a model of a given size is trained.

Everything follows from N alone, never from D, so that runs of one size are one constant-rate trunk with decays
branching off. Above 108M parameters: Porian et al. 2024 (arXiv:2406.19146), as coded in OLMo-core's ladder, learning
rate 0.0047 (N/108M)^(-1/3), batch 160 x 2048 tokens (N/108M)^(2/3), warmup of N tokens. Below, that rate would rise to
0.1 at 10k parameters; what was best on the built-in task was 0.025 at 1.7k, 0.016 at 11k and 0.005 at 35k.
"""

from dataclasses import dataclass

import numpy as np

from flops_fit.errors import ConfigError
from flops_fit.recipes.optimizers import OPTIMIZERS
from flops_fit.recipes.registry import look_up
from flops_fit.recipes.schedules import SCHEDULES
from flops_fit.records import ModelProbe, Recipe

LEARNING_RATES = ((1.6e3, 0.03), (5e4, 0.0055), (1.08e8, 0.0047), (1.08e11, 0.00047))
"""(N, peak rate) between which the default rate is a power law; the last two are 0.0047 (N/108M)^(-1/3)."""


@dataclass(frozen=True, kw_only=True)
class RecipeRule:
    """Training settings as functions of N, the number of parameters with embeddings."""

    reference_params: float = 108e6
    """N at which ``learning_rate`` and ``batch_tokens`` hold."""
    learning_rate: float | None = None
    """Peak rate at ``reference_params``; None interpolates `LEARNING_RATES`."""
    learning_rate_exponent: float = -1 / 3
    """Of the rate as a power of N, where ``learning_rate`` is given."""
    max_learning_rate: float = 0.03
    batch_tokens: int = 160 * 2048
    """Global batch of one optimizer step, tokens."""
    batch_exponent: float = 2 / 3
    min_batch_samples: int = 8
    max_batch_samples: int = 512
    warmup_tokens_per_param: float = 1.0
    optimizer: str = "adamw"
    """A name in `recipes.optimizers.OPTIMIZERS`: adamw, or muon (hidden matrices; adamw for the rest)."""
    schedule: str = "wsd"
    """A name in `recipes.schedules.SCHEDULES`: wsd, cosine, linear, constant or inverse_sqrt."""
    decay_fraction: float = 0.2
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    beta2_small_batch: float = 0.99
    """Used where a step has fewer than 512k tokens."""
    max_grad_norm: float | None = 1.0
    ema_decay: float | None = None
    """Such as 0.999: the held-out loss is measured on a moving average of the weights. None: on the weights."""

    def __post_init__(self) -> None:
        look_up(OPTIMIZERS, "optimizer", self.optimizer)
        look_up(SCHEDULES, "schedule", self.schedule)
        for name in (
            "reference_params",
            "learning_rate",
            "max_learning_rate",
            "batch_tokens",
            "min_batch_samples",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"sweep.recipe.{name}: got {value}, expected a positive number.")
        if not 0 < self.decay_fraction <= 1:
            raise ConfigError(f"sweep.recipe.decay_fraction: got {self.decay_fraction}, expected 0 < fraction <= 1.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(
                f"sweep.recipe.ema_decay: got {self.ema_decay}, expected 0 < decay < 1, such as 0.999, or null."
            )
        if self.max_batch_samples < self.min_batch_samples:
            raise ConfigError(
                f"sweep.recipe.max_batch_samples: got {self.max_batch_samples}, expected at least "
                f"min_batch_samples={self.min_batch_samples}."
            )


def recipe_for(rule: RecipeRule, probe: ModelProbe, tokens_per_sample: int) -> Recipe:
    """Returns the training settings of one size."""
    scale = probe.num_params / rule.reference_params
    samples = round(rule.batch_tokens * scale**rule.batch_exponent / tokens_per_sample)
    samples = min(max(samples, rule.min_batch_samples), rule.max_batch_samples)
    batch_tokens = samples * tokens_per_sample
    return Recipe(
        batch_tokens=batch_tokens,
        learning_rate=_learning_rate(rule, probe.num_params),
        warmup_tokens=round(rule.warmup_tokens_per_param * probe.num_params),
        optimizer=rule.optimizer,
        schedule=rule.schedule,
        decay_fraction=rule.decay_fraction,
        weight_decay=rule.weight_decay,
        beta1=rule.beta1,
        beta2=rule.beta2 if batch_tokens >= 512 * 1024 else rule.beta2_small_batch,
        max_grad_norm=rule.max_grad_norm,
        ema_decay=rule.ema_decay,
    )


def _learning_rate(rule: RecipeRule, num_params: int) -> float:
    if rule.learning_rate is None:
        sizes, rates = np.log(LEARNING_RATES).T
        # Beyond the table the last power law goes on.
        last = (rates[-1] - rates[-2]) / (sizes[-1] - sizes[-2]) * max(0.0, np.log(num_params) - sizes[-1])
        rate = float(np.exp(np.interp(np.log(num_params), sizes, rates) + last))
    else:
        rate = rule.learning_rate * (num_params / rule.reference_params) ** rule.learning_rate_exponent
    # Rounded to 4 digits, so that a record shows exactly what was used.
    return float(f"{min(rate, rule.max_learning_rate):.4g}")
