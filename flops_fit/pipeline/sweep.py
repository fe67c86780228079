"""Sweep: small models on the user's own text, trained as by `flops-fit run`; left out of a corpus too small for it."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from flops_fit.api import run_sweep
from flops_fit.api.single_run import subject_of
from flops_fit.errors import FitError, ModelFailed, PlanError
from flops_fit.pipeline.stages import Context, Outcome
from flops_fit.pipeline.task import engine_settings, recipe_rule, task_maker
from flops_fit.planning.isoflop import plan_isoflop
from flops_fit.planning.settings import SweepSettings, candidate_sizes
from flops_fit.quantities import count_of, format_flops
from flops_fit.records import RunResult, SweepPlan
from flops_fit.store import open_store
from flops_fit.tasks import Task, probe_sizes

FOLDER = "sweep"
MAX_EPOCHS = 4.0
"""The plain laws do not hold for runs that repeat their data more often."""
MIN_BUDGETS, MIN_SIZES = 5, 3


def run(context: Context) -> Outcome:
    """Trains the sweep in ``sweep/``."""
    config, make_task = context.config, task_maker(context)
    task = make_task()
    rule = recipe_rule(config, task.tokens_per_sample)
    limits = replace(config.sweep.limits, max_epochs=config.sweep.limits.max_epochs or MAX_EPOCHS)
    settings = replace(config.sweep, recipe=rule, limits=limits)
    plan, reason = plan_or_reason(task, settings, config.seed)
    if plan is None:
        return Outcome(left_out=reason)
    out = context.root / FOLDER
    with contextlib.suppress(FitError):  # The runs are kept; the next stage says why they support no law.
        run_sweep(
            task, settings, out, train=engine_settings(config), seed=config.seed, remake_task=make_task, plan=plan
        )
    store = open_store(out)
    results = store.results()
    check_results(results, f"{config.pipeline.learning_rate or 'a rule by N'}")
    completed = sum(result.status == "completed" for result in results)
    budgets, flops = len(plan.compute_budgets), format_flops(plan.total_flops)
    return Outcome(
        outputs=(f"{FOLDER}/plan.json", f"{FOLDER}/results.csv"),
        facts={"runs": len(results), "completed": completed, "flops": plan.total_flops},
        summary=f"{FOLDER}/, {completed} of {count_of(len(results), 'run')} at {budgets} budgets, {flops} FLOPs",
    )


def plan_or_reason(task: Task, settings: SweepSettings, seed: int) -> tuple[SweepPlan | None, str]:
    """Returns the plan, or None and why the corpus is too small for one.

    Raises:
        PlanError: If the sweep would not exist on any corpus.
    """
    probes, rejected = probe_sizes(task, candidate_sizes(settings), measure=True)
    subject = subject_of(task)
    try:
        plan = plan_isoflop(probes, settings, subject, rejected=rejected, seed=seed)
        if is_enough(plan):
            return plan, ""
    except PlanError:
        pass
    # Would it do on any corpus?
    endless = replace(subject, unique_tokens=None)
    if not is_enough(plan_isoflop(probes, settings, endless, rejected=rejected, seed=seed)):
        raise PlanError(
            f"got fewer than {MIN_SIZES} sizes at some of {len(settings.compute_budgets)} budgets, expected at least "
            f"{MIN_BUDGETS} budgets of {MIN_SIZES} sizes. Try more sweep.compute_budgets or a wider range of "
            "sweep.min_size and sweep.max_size."
        )
    epochs = settings.limits.max_epochs
    return None, (
        f"the corpus is too small for the sweep: its runs would see the {task.unique_tokens:,} training tokens more "
        f"than {epochs:g} times"
    )


def is_enough(plan: SweepPlan) -> bool:
    """Whether a plan has enough budgets with enough sizes each for a law."""
    sizes = Counter(e.compute_budget for e in plan.experiments)
    return len(sizes) >= MIN_BUDGETS and min(sizes.values()) >= MIN_SIZES


def check_results(results: Sequence[RunResult], rate: str) -> None:
    """Refuses a sweep of which half has failed or diverged."""
    for status in ("failed", "diverged"):
        bad = [result for result in results if result.status == status]
        if 2 * len(bad) >= len(results):
            raise training_failure(bad[0], f"{len(bad)} of {count_of(len(results), 'run')} of the sweep {status}", rate)


def training_failure(result: RunResult, what: str, rate: str) -> ModelFailed:
    """The error of runs that did not complete: its cause, and the flag to try next."""
    last = (result.reason or "").strip().rsplit("\n", 1)[-1]
    if result.status == "diverged":
        remedy = f"The learning rate was {rate}. Try a lower one: --learning-rate 0.003."
    elif is_out_of_memory(result.reason or ""):
        batch = result.experiment.recipe.batch_tokens // result.experiment.tokens_per_sample
        remedy = f"It ran out of memory. Try a smaller --batch-size (it was {batch}) or --max-seq-length."
    else:
        remedy = "Read the cause, and go on with --resume."
    return ModelFailed(f"{what}: {last.rstrip('.')}. {remedy}")


def is_out_of_memory(text: str) -> bool:
    """Whether an error's text is that of memory which could not be had, on a GPU or a host."""
    return any(sign in text for sign in ("OutOfMemoryError", "not enough memory", "MemoryError", "can't allocate"))
