"""Sweeps of users' own models: from a class, data and a loss to a plan or a fitted result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from torch import nn

from flops_fit.api.sweeps import plan_task, run_sweep, simulate_sweep
from flops_fit.data import as_source, split_held_out
from flops_fit.errors import ConfigError
from flops_fit.planning.settings import SweepSettings
from flops_fit.records import SweepPlan
from flops_fit.result import Result
from flops_fit.schema import build
from flops_fit.tasks import Task, is_trainable, make_task
from flops_fit.training.settings import TrainSettings

MODES = ("local", "mock")
MAX_EPOCHS = 4
"""As in the presets of the command line: the plain laws do not hold for runs that repeat their data more often."""


def find_optimal(
    model_cls: Callable[..., nn.Module],
    model_size_param: str,
    model_kwargs: Mapping[str, Any] | None = None,
    dataset: Any = None,
    loss_fn: Callable[[Any, Any], Any] | None = None,
    compute_budgets: Sequence[float] | None = None,
    *,
    eval_dataset: Any = None,
    train: bool = True,
    mode: str = "local",
    output_dir: str | Path = "outputs",
    resume: bool = True,
    sweep: SweepSettings | Mapping[str, Any] | None = None,
    train_config: TrainSettings | Mapping[str, Any] | None = None,
    seed: int = 0,
    fingerprint: str | None = None,
    progress: bool = True,
) -> Result | SweepPlan:
    """Plans a sweep of small runs of your model, trains them, and fits scaling laws.

    Args:
        model_cls: ``model_cls(**{model_size_param: n}, **model_kwargs)`` returns an ``nn.Module``.
        model_size_param: Name of the constructor argument that sets the size, such as "d_model".
        model_kwargs: Other constructor arguments.
        dataset: Training data: map-style, iterable or a DataLoader, of ``(inputs, targets)`` or mappings.
        loss_fn: ``loss_fn(outputs, targets)``; None for models whose output has a ``.loss``.
        compute_budgets: C of each IsoFLOP curve, training FLOPs; five or more for a fit.
        eval_dataset: Held-out data; None keeps a part of ``dataset`` apart.
        train: False returns the plan without training.
        mode: "local" trains; "mock" simulates losses from a seeded law, without a forward pass.
        output_dir: Folder of the sweep. Calling again with the same arguments goes on where it stopped, and with more
            budgets or sizes trains what is new.
        resume: False refuses a folder that already holds results.
        sweep: Grid settings. With data, FLOPs are measured on the model and no run sees its data more than four
            times (``limits.max_epochs``), unless they say otherwise.
        train_config: Engine settings (precision, micro-batch, ...). With ``workers`` above 1, model, data and loss
            must come from a module that another process can import, and the script that calls this is not run again.
        seed: Of weights, data order and simulated noise.
        fingerprint: Your own name for this model, data and loss, such as "my-data-v3", in place of their code and
            content; change it whenever one of them changes.
        progress: Whether to show runs and time left on stderr.

    Returns:
        The fitted result; the plan alone if ``train`` is False or there is no data or loss to train with.

    Raises:
        ContractError: If model, data or loss cannot be used (checked in this order).
        PlanError: If there are no budgets, or no sensible sweep exists for them.
        ConfigError: If a setting is unknown or out of range.
        FitError: If too few runs are usable; the runs are kept.
        PlanMismatch: If ``output_dir`` belongs to another sweep; nothing is changed then.
    """
    if mode not in MODES:
        raise ConfigError(f"mode: got {mode!r}, expected one of {', '.join(map(repr, MODES))}.")
    settings = _sweep_settings(sweep, compute_budgets, with_data=dataset is not None)
    engine = train_config if isinstance(train_config, TrainSettings) else build(TrainSettings, train_config or {})
    parts = (model_cls, model_size_param, model_kwargs, dataset, eval_dataset, loss_fn, fingerprint)
    task = _user_task(*parts)
    if not train or (mode == "local" and not is_trainable(task)):
        return plan_task(task, settings, seed=seed)
    if mode == "mock":
        return simulate_sweep(task, settings, output_dir, seed=seed, resume=resume)
    return run_sweep(
        task, settings, output_dir, train=engine, seed=seed, resume=resume, progress=progress,
        remake_task=partial(_user_task, *parts),
    )  # fmt: skip


def plan_sweep(
    model_cls: Callable[..., nn.Module],
    size_param: str,
    model_kwargs: Mapping[str, Any] | None = None,
    compute_budgets: Sequence[float] | None = None,
    *,
    num_sizes_per_budget: int = 7,
    min_size: int = 64,
    max_size: int = 8192,
    size_multiple: int = 64,
    flops_per_param_per_token: float | str = 6,
) -> SweepPlan:
    """Plans an IsoFLOP sweep without data: sizes are built on the meta device and counted.

    Args:
        model_cls: As in `find_optimal`.
        size_param: Name of the constructor argument that sets the size.
        model_kwargs: Other constructor arguments.
        compute_budgets: C of each IsoFLOP curve, training FLOPs.
        num_sizes_per_budget: Sizes at each budget, fewer where fewer are feasible.
        min_size: Smallest value of the size parameter to consider.
        max_size: Largest value.
        size_multiple: Only multiples of this are considered.
        flops_per_param_per_token: f in C = f N D, or "measured" for models with ``flops_per_token()``.

    Raises:
        ContractError: If the model class cannot be used.
        PlanError: If there is no budget, or one that no size fits.
    """
    grid = {
        "num_sizes_per_budget": num_sizes_per_budget,
        "min_size": min_size,
        "max_size": max_size,
        "size_multiple": size_multiple,
        "flops_per_param_per_token": flops_per_param_per_token,
    }
    settings = _sweep_settings(grid, compute_budgets, with_data=False)
    return plan_task(make_task(model_cls, size_param, model_kwargs), settings)


def _sweep_settings(
    sweep: SweepSettings | Mapping[str, Any] | None, compute_budgets: Any, *, with_data: bool
) -> SweepSettings:
    if isinstance(sweep, SweepSettings):
        return sweep if compute_budgets is None else replace(sweep, compute_budgets=_budgets(compute_budgets))
    if sweep is not None and not isinstance(sweep, Mapping):
        raise ConfigError(f"sweep: got {sweep!r}, expected a mapping of grid settings such as {{'max_size': 128}}.")
    values: dict[str, Any] = dict(sweep or {})
    if with_data:
        values.setdefault("flops_per_param_per_token", "measured")
        values["limits"] = {"max_epochs": MAX_EPOCHS, **values.get("limits", {})}
    budgets = values.get("compute_budgets") if compute_budgets is None else compute_budgets
    return build(SweepSettings, {**values, "compute_budgets": _budgets(budgets)}, path="sweep")


def _budgets(budgets: Any) -> tuple[float, ...]:
    """A tuple of FLOPs, also from an array; a scalar and strings are refused."""
    if budgets is None:
        return ()
    expected = "expected a list of training FLOPs such as [1e17, 3e17, 1e18, 3e18, 1e19]"
    if isinstance(budgets, (str, Real)) or not hasattr(budgets, "__iter__"):
        raise ConfigError(f"compute_budgets: got {budgets!r}, {expected}.")
    budgets = list(budgets)
    wrong = [c for c in budgets if isinstance(c, bool) or not isinstance(c, Real)]
    if wrong:
        raise ConfigError(f"compute_budgets: got {wrong[0]!r} among them, {expected} (numbers, not text).")
    return tuple(float(c) for c in budgets)


def _user_task(
    model_cls: Callable[..., nn.Module],
    size_param: str,
    model_kwargs: Mapping[str, Any] | None,
    dataset: Any,
    eval_dataset: Any,
    loss_fn: Callable[[Any, Any], Any] | None,
    fingerprint: str | None,
) -> Task:
    bare = make_task(model_cls, size_param, model_kwargs)
    if dataset is None:
        return make_task(model_cls, size_param, bare.model_kwargs, loss_fn=loss_fn, fingerprint=fingerprint)
    train = as_source(dataset)
    held_out = None if eval_dataset is None else as_source(eval_dataset)
    if held_out is None:
        train, held_out = split_held_out(train)
    return make_task(
        model_cls,
        size_param,
        bare.model_kwargs,
        train_data=train,
        eval_data=held_out,
        loss_fn=loss_fn,
        fingerprint=fingerprint,
    )
