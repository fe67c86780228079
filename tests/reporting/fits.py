"""Fits to report on: a simulated sweep at the scale of Chinchilla, and changed copies of it."""

from dataclasses import replace
from functools import cache

import numpy as np

from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.records import ExcludedRun, Experiment, Finding, Recipe, Rejection, RunResult, RunTable, SweepPlan

LAW = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
HOSTILE = '</script><script>alert(1)</script> $\\frac{$ " onload="x'


def table_of_runs(
    budgets=(1e18, 3e18, 1e19, 3e19, 1e20, 3e20), *, sizes=7, reach=4.0, centre=1.0, noise=0.003, **columns
):
    rng = np.random.default_rng(0)
    budget = np.repeat(np.asarray(budgets, dtype=np.float64), sizes)
    spread = np.tile(np.geomspace(1 / reach, reach, sizes), len(budgets))
    num_params = LAW.n_opt(budget) * spread * centre
    num_tokens = budget / (6 * num_params)
    loss = LAW.loss(num_params, num_tokens) * np.exp(noise * rng.standard_normal(len(budget)))
    names = tuple(f"run-{i:03d}" for i in range(len(budget)))
    columns = {"condition": ("",) * len(names), "name": "simulated", **columns}
    return RunTable(
        compute_budget=budget, compute=budget, num_params=num_params, num_tokens=num_tokens, loss=loss,
        source=names, group=names, seed=np.zeros(len(names), dtype=np.int64), **columns,
    )  # fmt: skip


@cache
def sound_laws():
    return fit(table_of_runs(), options=FitOptions(num_bootstraps=40))


@cache
def tiny_laws():
    return fit(table_of_runs((1e9, 3e9, 1e10, 3e10, 1e11)), options=FitOptions(num_bootstraps=40))


def untrusted_laws():
    finding = Finding(level="error", code="few_budgets", message="Only 1 budget has a minimum.", advice="Add budgets.")
    return replace(sound_laws(), findings=(*sound_laws().findings, finding))


def doubtful_laws():
    findings = (
        Finding(level="warning", code="flat_valley", message="The valley is " + "wide, " * 40, advice="Add seeds."),
        Finding(level="warning", code="few_seeds", message="One seed.", advice="Add seeds."),
        Finding(level="info", code="condensed", message="Runs were averaged.", advice="Nothing to do."),
    )
    return replace(sound_laws(), findings=findings)


def lawless_laws():
    return replace(untrusted_laws(), recommended=None, reason="no method could be fitted")


def hostile_laws():
    laws = sound_laws()
    runs = replace(laws.runs, name=HOSTILE, data_unit=HOSTILE, condition=(HOSTILE,) * len(laws.runs))
    finding = Finding(level="warning", code="odd", message=HOSTILE, advice=HOSTILE)
    excluded = (ExcludedRun(source=HOSTILE, code="bad_row", reason=HOSTILE),)
    return replace(laws, runs=runs, findings=(finding,), runs_excluded=excluded)


def plan_and_results(laws):
    """A plan whose first run diverged and whose others are the runs of ``laws``."""
    recipe = Recipe(batch_tokens=1024, learning_rate=1e-3, warmup_tokens=1024)
    names = ("diverged-run", *laws.runs.source)
    experiments = tuple(
        Experiment(
            experiment_id=name, compute_budget=1e18, size_param_value=64, num_params=10**8, num_tokens=10**9,
            num_params_non_embedding=10**8, flops_per_token=6e8, measured_flops_per_token=None, tokens_per_sample=64,
            recipe=recipe,
        )
        for name in names
    )  # fmt: skip
    rejected = tuple(Rejection(size_param_value=i, reason=f"too large by {i}", compute_budget=1e18) for i in range(40))
    plan = SweepPlan(
        experiments=experiments, rejected=rejected, model_cls_name="GPT", size_param="d_model",
        compute_budgets=(1e18,), task_name=HOSTILE, task_fingerprint="f00",
    )  # fmt: skip
    results = tuple(
        RunResult(
            experiment=e, status="diverged" if i == 0 else "completed", loss=None if i == 0 else 3.0,
            loss_std_error=None, tokens_seen=e.num_tokens, flops_spent=1e18, wall_seconds=1.0,
            reason="loss became NaN at step 7" if i == 0 else None,
        )
        for i, e in enumerate(experiments)
    )  # fmt: skip
    return plan, results
