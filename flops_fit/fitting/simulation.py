"""Simulated results: a plan's losses as if a known law were true, without a model."""

import math
from typing import Protocol

import numpy as np

from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.fitting.laws import ChinchillaLaw
from flops_fit.records import FloatArray, RunResult, SweepPlan

# Losses of a simulated run stay within what a language model shows.
LOSS_RANGE = (1.5, 15.0)


class Law(Protocol):
    """Anything with an expected loss of N parameters trained on D tokens."""

    def loss(self, num_params: FloatArray | float, num_tokens: FloatArray | float) -> FloatArray:
        """Expected loss, nats."""
        ...


def mock_law(plan: SweepPlan) -> ChinchillaLaw:
    """A law whose optimum lies inside the plan's grid, whatever its scale, with losses within 1.5 to 15.

    Both terms have equal slopes at the plan's middle N and D, which puts the optimum of the middle budget
    there; the exponents are near Chinchilla's.
    """
    sizes = np.log([e.num_params for e in plan.experiments])
    tokens = np.log([e.num_tokens for e in plan.experiments])
    alpha, beta, irreducible = 0.34, 0.32, 1.7
    middle_n, middle_d = float(np.median(sizes)), float(np.median(tokens))
    worst = math.exp(alpha * (middle_n - sizes.min())) / alpha + math.exp(beta * (middle_d - tokens.min())) / beta
    share = min(0.35, 10.0 / worst)
    ratio = np.log([e.flops_per_token / e.num_params for e in plan.experiments])
    return ChinchillaLaw(
        E=irreducible,
        A=share / alpha * math.exp(alpha * middle_n),
        B=share / beta * math.exp(beta * middle_d),
        alpha=alpha,
        beta=beta,
        flops=FlopsFunction(log_n=np.zeros(1), log_ratio=np.array([float(np.median(ratio))])),
    )


def simulate_results(plan: SweepPlan, law: Law, noise: float, seed: int) -> tuple[RunResult, ...]:
    """Results of the plan as if the law were true; no model is built.

    Args:
        plan: The runs.
        law: The truth.
        noise: Standard deviation of log loss.
        seed: With the experiment's id it decides that run's noise, so a larger plan changes no earlier run.
    """
    results = []
    for experiment in plan.experiments:
        rng = np.random.default_rng([seed, *experiment.experiment_id.encode()])
        expected = float(law.loss(experiment.num_params, experiment.num_tokens))
        loss = float(np.clip(expected * math.exp(noise * rng.standard_normal()), *LOSS_RANGE))
        flops_per_token = experiment.measured_flops_per_token or experiment.flops_per_token
        results.append(
            RunResult(
                experiment=experiment,
                status="completed",
                loss=loss,
                loss_std_error=noise * loss,
                tokens_seen=experiment.num_tokens,
                flops_spent=flops_per_token * experiment.num_tokens,
                wall_seconds=0.0,
                steps=experiment.num_steps,
                environment={"simulated": True},
            )
        )
    return tuple(results)
