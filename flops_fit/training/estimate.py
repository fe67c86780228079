"""Cost of a plan on this machine, estimated by a probe of some seconds: time and peak memory."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls

from flops_fit.distributed import World
from flops_fit.recipes.optimizers import make_optimizer
from flops_fit.recipes.trunks import group_by_trunk, own_steps
from flops_fit.records import Experiment, SweepPlan
from flops_fit.tasks import Task, compute_loss, create_model
from flops_fit.training.engine.memory import bytes_per_sample, free_bytes
from flops_fit.training.engine.probe import MEMORY_SHARE
from flops_fit.training.experiment import threads_for
from flops_fit.training.feeding import moved
from flops_fit.training.settings import TrainSettings
from flops_fit.training.sweep import eval_tokens

# Weights, gradients and AdamW's two moments in float32.
BYTES_PER_PARAM = 16
# A step of more samples is timed on so many, and scaled.
MAX_SAMPLES = 64
# A size whose steps would take longer than this, by the sizes before it, is not probed but extrapolated to.
MAX_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """What training a plan would take on one process of this machine, in fp32."""

    seconds: float
    """Of training and evaluation, steps that runs of one size share counted once."""
    peak_memory_bytes: float
    """Of the largest run: weights, gradients, optimizer and saved activations."""
    free_memory_bytes: int
    probe_seconds: float
    num_sizes_probed: int
    processes: Mapping[str, int]
    """By run, of those whose model and one sample do not fit on a device like this one: how many devices together
    hold them (FSDP). All others are fastest on one device each."""


@dataclass(frozen=True, kw_only=True)
class _Probe:
    num_params: int
    seconds_per_step: float
    flops_per_step: float
    activation_bytes: int
    """Of one sample."""


def estimate_cost(task: Task, plan: SweepPlan, world: World, settings: TrainSettings) -> CostEstimate:
    """Times a few steps of up to three sizes of the plan, and extrapolates to all of its runs.

    Args:
        task: Model, data and loss, with data to train on.
        plan: The runs.
        world: Of one process.
        settings: Whether trunks are shared, and how many samples are evaluated.

    Raises:
        ContractError: If the model cannot be built.
    """
    started = time.perf_counter()
    probes: list[_Probe] = []
    for experiment in _spread(plan.experiments):
        if probes and _seconds(probes, 1, _flops(experiment, 1)) * 3 > MAX_SECONDS:
            break
        if experiment.num_params * BYTES_PER_PARAM > 0.5 * free_bytes(world.device):
            break
        with threads_for(experiment.num_params, world):
            probes.append(_probe(task, experiment, world))
    steps, flops = _work(plan, settings, eval_tokens(task, settings))
    largest = max(plan.experiments, key=lambda e: e.num_params)
    free = free_bytes(world.device)
    samples = largest.recipe.batch_tokens // largest.tokens_per_sample
    activations = min(samples * _activation_bytes(probes, largest.num_params), MEMORY_SHARE * free)
    return CostEstimate(
        seconds=_seconds(probes, steps, flops),
        peak_memory_bytes=largest.num_params * BYTES_PER_PARAM + activations,
        free_memory_bytes=free,
        probe_seconds=time.perf_counter() - started,
        num_sizes_probed=len(probes),
        processes=_processes(plan, probes, MEMORY_SHARE * free),
    )


def _processes(plan: SweepPlan, probes: Sequence[_Probe], usable: float) -> dict[str, int]:
    found = {}
    for run in plan.experiments:
        # The processes share weights, gradients and moments; the activations of a sample are each one's own.
        state, activations = run.num_params * BYTES_PER_PARAM, _activation_bytes(probes, run.num_params)
        if state + activations > usable:
            found[run.experiment_id] = math.ceil(state / max(usable - activations, 0.1 * usable))
    return found


def _work(plan: SweepPlan, settings: TrainSettings, eval_tokens: int) -> tuple[float, float]:
    """Steps and FLOPs of all runs and their evaluations."""
    steps = flops = 0.0
    for trunk in group_by_trunk(plan.experiments, share_trunks=settings.share_trunks):
        for experiment, own in zip(trunk, own_steps(trunk), strict=True):
            steps += own
            # An evaluation is a forward pass, a third of a training step.
            flops += _flops(experiment, own) + eval_tokens / 3 * _flops_per_token(experiment)
    return steps, flops


def _spread(experiments: Sequence[Experiment]) -> list[Experiment]:
    """One run of the smallest, a middle and the largest size, ascending."""
    by_size = {e.num_params: e for e in experiments}
    sizes = sorted(by_size)
    return [by_size[n] for n in dict.fromkeys((sizes[0], sizes[len(sizes) // 2], sizes[-1]))]


def _probe(task: Task, experiment: Experiment, world: World) -> _Probe:
    assert task.train_data is not None
    step_samples = experiment.recipe.batch_tokens // experiment.tokens_per_sample
    count = min(step_samples, MAX_SAMPLES)
    known = task.train_data.num_samples
    ids = np.arange(count, dtype=np.int64)
    batch = moved(task.train_data.batch(ids if known is None else ids % known), world.device)
    state = torch.get_rng_state()
    model = create_model(task, experiment.size_param_value).to(world.device)
    optimizer = make_optimizer(model, experiment.recipe)

    def step() -> float:
        started = time.perf_counter()
        compute_loss(task, model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if world.device.type == "cuda":
            torch.cuda.synchronize(world.device)
        return time.perf_counter() - started

    step()
    seconds = min(step(), step())
    saved = bytes_per_sample(model, lambda: compute_loss(task, model, batch)) / count
    torch.set_rng_state(state)
    return _Probe(
        num_params=experiment.num_params,
        seconds_per_step=seconds,
        flops_per_step=_flops(experiment, 1) * count / step_samples,
        activation_bytes=int(saved),
    )


def _seconds(probes: Sequence[_Probe], steps: float, flops: float) -> float:
    """Steps * overhead + FLOPs / rate, both at least zero, fitted to the probes."""
    works = np.array([[1.0, p.flops_per_step] for p in probes])
    times = np.array([p.seconds_per_step for p in probes])
    scale = works.max(axis=0)
    # Relative errors count, so that small models, which take most of the steps, weigh as much as large ones.
    solution, _ = nnls(works / scale / times[:, None], np.ones(len(times)))
    return float(np.array([steps, flops]) / scale @ solution)


def _activation_bytes(probes: Sequence[_Probe], num_params: int) -> float:
    """Of one sample: a power law through the two largest sizes probed."""
    last = probes[-1]
    if len(probes) < 2 or num_params <= last.num_params:
        return last.activation_bytes
    before = probes[-2]
    growth = np.log(max(last.activation_bytes, 1) / max(before.activation_bytes, 1))
    slope = growth / np.log(last.num_params / before.num_params)
    return float(last.activation_bytes * (num_params / last.num_params) ** slope)


def _flops(experiment: Experiment, steps: float) -> float:
    return steps * experiment.recipe.batch_tokens * _flops_per_token(experiment)


def _flops_per_token(experiment: Experiment) -> float:
    return experiment.measured_flops_per_token or experiment.flops_per_token
