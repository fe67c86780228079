"""Plan checks: what would keep the fit from being trusted, found before any compute is spent."""

from flops_fit.fitting.inputs.exclusions import MAX_EPOCHS
from flops_fit.quantities import count_of, format_count, format_flops
from flops_fit.records import Finding, SweepPlan

MIN_BUDGETS = 5
MIN_SIZES = 4
MIN_SPAN = 10**1.5


def check_plan(plan: SweepPlan, *, unique_tokens: int | None = None) -> tuple[Finding, ...]:
    """Returns a finding for each property of the plan that would weaken its fit.

    Args:
        plan: The runs.
        unique_tokens: Distinct training tokens; None if unknown.
    """
    findings = []
    budgets = plan.compute_budgets
    if len(budgets) < MIN_BUDGETS:
        findings.append(
            Finding(
                level="warning",
                code="few_budgets",
                message=f"the plan has {len(budgets)} compute budgets, too few to check a power law.",
                advice=f"Plan at least {MIN_BUDGETS} budgets over at least 1.5 decades.",
            )
        )
    elif budgets[-1] / budgets[0] < MIN_SPAN:
        findings.append(
            Finding(
                level="warning",
                code="short_span",
                message=f"the budgets span only a factor of {budgets[-1] / budgets[0]:.3g}.",
                advice="Span at least a factor of 32 (1.5 decades), or exponents will be mostly noise.",
            )
        )
    for budget in budgets:
        sizes = {e.num_params for e in plan.experiments if e.compute_budget == budget}
        if len(sizes) < MIN_SIZES:
            findings.append(
                Finding(
                    level="warning",
                    code="few_sizes",
                    message=f"the budget {format_flops(budget)} has {count_of(len(sizes), 'size')}, "
                    f"too few to locate a minimum (at least {MIN_SIZES}).",
                    advice="Widen min_size..max_size, lower size_multiple, or raise the budget.",
                )
            )
    repeated = 0 if unique_tokens is None else sum(e.num_tokens > MAX_EPOCHS * unique_tokens for e in plan.experiments)
    if unique_tokens is not None and repeated:
        findings.append(
            Finding(
                level="warning",
                code="epochs_above_four",
                message=f"{repeated} of {plan.num_experiments} runs would see the {format_count(unique_tokens)} "
                f"training {plan.data_unit} more than {MAX_EPOCHS:g} times, and laws of unrepeated data exclude them.",
                advice="Use more data or smaller budgets, or set sweep.limits.max_epochs=4.",
            )
        )
    return tuple(findings)
