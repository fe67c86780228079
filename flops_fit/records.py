"""Records of a sweep: what is decided before a run, and what is known after it.

Frozen values that flow one way: ModelProbe -> SweepPlan of Experiments -> RunResult -> RunTable,
and what the fit says of them: Interval, Finding. Units stand in the field docstrings. ``None`` means absent.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flops_fit.quantities import format_flops
from flops_fit.schema import canonical_json, to_plain

FloatArray = NDArray[np.float64]
Status = Literal["completed", "diverged", "failed", "preempted", "stalled", "died", "lost", "stopped"]
"""completed, diverged: final; failed: retried on request alone. The others end attempts that are retried: preempted (a
signal asked), stalled (no progress for ``train.stall_seconds``), died (a parent saw its process end), lost (its worker
is silent or gone), stopped (an error ended the command, such as a full disk)."""
FINAL: tuple[Status, ...] = ("completed", "diverged")


@dataclass(frozen=True, kw_only=True)
class ModelProbe:
    """One model size, built on the meta device and counted."""

    size_param_value: int
    num_params: int
    """N, all parameters, shared ones once."""
    num_params_non_embedding: int
    """N without the weights of ``nn.Embedding`` modules that are not also an output layer."""
    flops_per_token: float | None = None
    """Training FLOPs per token, forward and backward, attention counted dense; None if not measured."""
    flops_per_token_causal: float | None = None
    """The same without what causal attention skips; None if not measured."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A size or a (size, budget) cell that the plan leaves out, and why."""

    size_param_value: int
    reason: str
    compute_budget: float | None = None
    """None where the size is unusable at any budget."""
    code: str = ""
    """Name of the rule that it breaks, see `planning.feasibility.RULES`; "" for a size that cannot be built."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a run is trained. It follows from N alone, so that runs of one size can share a trunk."""

    batch_tokens: int
    """Global batch of one optimizer step, tokens; a multiple of ``tokens_per_sample``."""
    learning_rate: float
    warmup_tokens: int
    schedule: str = "wsd"
    """A name in `recipes.schedules.SCHEDULES`. Checked where a sweep is planned and where a run is trained, so that a
    record can be read and fitted where the schedule is not registered."""
    decay_fraction: float = 0.2
    """Share of the run's tokens spent in the WSD decay."""
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    max_grad_norm: float | None = 1.0
    ema_decay: float | None = None
    """Decay of the weights' moving average, on which the held-out loss is measured; None: on the weights themselves."""
    optimizer: str = "adamw"
    """A name in `recipes.optimizers.OPTIMIZERS`, checked like ``schedule``."""

    @property
    def content(self) -> dict[str, Any]:
        """Its part of an experiment id. Fields added later are left out at their default, so that old ids stay."""
        added_later = {"ema_decay": None, "optimizer": "adamw"}
        return {k: v for k, v in to_plain(self).items() if k not in added_later or v != added_later[k]}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One training run of a sweep, fully decided before it starts."""

    experiment_id: str
    """Content hash of all that changes the loss (see `content_id`)."""
    compute_budget: float
    """C, training FLOPs the run was planned for."""
    size_param_value: int
    num_params: int
    """N."""
    num_params_non_embedding: int
    num_tokens: int
    """D, training tokens, a multiple of ``tokens_per_sample``."""
    flops_per_token: float
    """FLOPs per token by the plan's convention, so that C = flops_per_token * D."""
    measured_flops_per_token: float | None
    """FLOPs per token counted on the model itself; None if not measured."""
    tokens_per_sample: int
    recipe: Recipe
    seed: int = 0
    measured_flops_per_token_causal: float | None = None
    """The measured count without what causal attention skips; None if not measured."""

    @property
    def tokens_per_param(self) -> float:
        """D/N."""
        return self.num_tokens / self.num_params

    @property
    def num_steps(self) -> int:
        """Optimizer steps; the last one may be partial."""
        return -(-self.num_tokens // self.recipe.batch_tokens)

    def tokens_after(self, steps: int) -> int:
        """Tokens that the run has seen after so many of its steps."""
        return min(steps * self.recipe.batch_tokens, self.num_tokens)

    @property
    def group(self) -> str:
        """Runs of one size and seed share data order and initial weights, so their errors are correlated."""
        return f"{self.size_param_value}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """All runs of a sweep, and what was left out."""

    experiments: tuple[Experiment, ...]
    rejected: tuple[Rejection, ...]
    model_cls_name: str
    size_param: str
    compute_budgets: tuple[float, ...]
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    flops_convention: str = "6N"
    """What a FLOP is in this plan: "6N" per token (or another multiple of N) or "measured"."""
    task_name: str = ""
    task_fingerprint: str = ""
    """Identifies model, data and loss; runs of different fingerprints are never mixed."""
    data_unit: str = "tokens"

    @property
    def total_flops(self) -> float:
        """Training FLOPs of all experiments together, by the plan's convention."""
        return float(sum(e.flops_per_token * e.num_tokens for e in self.experiments))

    @property
    def num_experiments(self) -> int:
        """How many runs the plan holds."""
        return len(self.experiments)

    def __repr__(self) -> str:
        return (
            f"SweepPlan({self.num_experiments} experiments, {len(self.compute_budgets)} budgets, "
            f"total_flops={format_flops(self.total_flops)})"
        )


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one run of the plan came to. Losses are None, never NaN, where a run did not complete."""

    experiment: Experiment
    status: Status
    loss: float | None
    """Mean held-out loss at the end of the finished schedule, nats per ``data_unit``; of the averaged weights where
    the recipe has an ``ema_decay``."""
    loss_std_error: float | None
    """Standard error of that mean over held-out samples."""
    tokens_seen: int
    flops_spent: float
    """Counted: measured FLOPs per token (the plan's where not measured) times ``tokens_seen``."""
    wall_seconds: float
    flops_spent_causal: float | None = None
    """The same without what causal attention skips; None if not measured."""
    reason: str | None = None
    """Why it did not complete."""
    epochs: float | None = None
    """``tokens_seen`` over unique training tokens."""
    train_loss: float | None = None
    """Mean training loss over the last tenth of the steps."""
    steps: int = 0
    steps_from_trunk: int = 0
    """Of these, steps that another run of the same trunk had made."""
    flops_from_trunk: float = 0.0
    """FLOPs of those steps: part of ``flops_spent``, and not spent again."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Files of weights that were kept, "final" and "best", relative to the sweep's folder."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """World size, micro-batch, precision, device, versions, time of the end: for people, nothing reads it back."""

    @property
    def last_line(self) -> str:
        """Of its reason, which may be a traceback; "" without one."""
        return (self.reason or "").strip().rsplit("\n", 1)[-1]


ExclusionCode = Literal[
    "diverged", "failed", "not_run_yet", "not_completed", "bad_row", "repeated_row", "above_max_compute",
    "unfinished_schedule", "other_learning_rate", "too_many_epochs", "outlier",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ExcludedRun:
    """A run that does not enter a fit, and why."""

    source: str
    """Experiment id, or "line 17" ("row 17" of JSON and Parquet) of the file."""
    code: ExclusionCode
    """What programs go by; ``reason`` is for people."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something a reader must know before believing a number."""

    level: Literal["info", "warning", "error"]
    """"error": the number it speaks of must not be used."""
    code: str
    """Stable short name, such as "optimum_at_edge"."""
    message: str
    advice: str


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number with its interval."""

    value: float
    low: float
    high: float
    level: float = 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class RunTable:
    """Finished runs as columns, each of shape (n_runs,). The only thing that fitting sees."""

    compute_budget: FloatArray
    """Planned C: runs of one IsoFLOP curve have the same value."""
    compute: FloatArray
    """C spent, FLOPs."""
    num_params: FloatArray
    """N."""
    num_tokens: FloatArray
    """D."""
    loss: FloatArray
    """Nats per token, finite and positive."""
    source: tuple[str, ...]
    """Experiment id or "line 17": where the row came from."""
    condition: tuple[str, ...]
    """Recipe or data set the run belongs to; "" where the table has none."""
    group: tuple[str, ...]
    """Runs of one group have correlated errors (one trunk); unique per row where unknown."""
    seed: NDArray[np.int64]
    loss_std_error: FloatArray | None = None
    """Standard error of the loss, nats; NaN where unknown."""
    num_params_non_embedding: FloatArray | None = None
    learning_rate: FloatArray | None = None
    epochs: FloatArray | None = None
    unique_tokens: FloatArray | None = None
    schedule_tokens: FloatArray | None = None
    """Tokens that the run's learning-rate schedule was set for; more than D where it was read off early."""
    excluded: tuple[ExcludedRun, ...] = ()
    notes: tuple[Finding, ...] = ()
    """What reading the table already found."""
    name: str = ""
    data_unit: str = "tokens"

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, keep: NDArray[np.bool_], *, code: ExclusionCode | None = None, reason: str = "") -> "RunTable":
        """Returns the rows where ``keep`` is true, shape (n_runs,); a ``code`` lists the others as excluded."""
        if keep.all():
            return self
        listed: list[ExcludedRun] = []
        if code is not None:
            listed = [ExcludedRun(source=self.source[i], code=code, reason=reason) for i in np.flatnonzero(~keep)]
        changes: dict[str, Any] = {"excluded": (*self.excluded, *listed)}
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                changes[name] = value[keep]
            elif name in ("source", "condition", "group"):
                changes[name] = tuple(v for v, kept in zip(value, keep, strict=True) if kept)
        return replace(self, **changes)


def content_id(**content: Any) -> str:
    """Returns the id of a run: 16 hex digits of the SHA-256 of everything that changes its loss."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]
