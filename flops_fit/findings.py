"""The codes of all findings, and what each means."""

FINDING_CODES: dict[str, str] = {
    # The table of runs, as it was read.
    "budgets_grouped": "The file states no budgets, so runs of nearly equal C were grouped into one.",
    "column_incomplete": "An optional column is empty for some runs and was not used.",
    "compute_overflow": "C had overflowed 64-bit integers and was recomputed as 6ND.",
    # The runs and the plan.
    "columns_taken": "Columns were taken by another name than the documented one, or one of several was chosen.",
    "decimal_comma": "Numbers were read with a decimal comma.",
    "repeated_rows": "Exact repeats of a row were dropped.",
    "training_loss": "The table has only a training loss, so the law is one of the training loss.",
    "condensed": "There are more runs than a bootstrap can take, so they were averaged into weighted cells.",
    "constant_d": "D is the same in all runs, so its effect on the loss is unknown.",
    "constant_learning_rate": "One learning rate was used for a wide range of sizes, which bends the law.",
    "constant_n": "N is the same in all runs, so its effect on the loss is unknown.",
    "epochs_above_four": "Some runs see their data more than four times and are left out of the plain laws.",
    "epochs_unclear": "Epochs are missing for some runs, or differ from D over the unique tokens.",
    "flops_not_6nd": "C differs from 6ND; the optimum is solved on C as recorded.",
    "implausible_units": "C, N or D is not in FLOPs, parameters or tokens.",
    "loss_not_falling": "The best loss does not fall with compute.",
    "outliers": "Runs whose loss is far off the law, while their neighbours' is not, were left out.",
    "repeated_data": "Some runs saw part of their data more than once; all laws count their effective tokens.",
    "runs_excluded": "Runs were left out for the reason that each states.",
    "short_span": "The budgets span less than 1.5 decades, so exponents are mostly noise.",
    "unequal_budget_flops": "Runs of one budget spent different amounts of compute.",
    # IsoFLOP curves.
    "few_budgets": "Fewer than five budgets have a usable minimum, or were planned.",
    "few_sizes": "A budget has too few sizes for its parabola to be checked.",
    "flat_valley": "A curve is so flat against its noise that its minimum is hardly constrained.",
    "negative_curvature": "A curve bends downwards, so it has no minimum.",
    "no_isoflop_curves": "Runs do not share budgets, so there are no IsoFLOP curves to test N_opt on.",
    "optimum_at_edge": "The minimum of a curve lies beyond its smallest or largest size.",
    "scattered_curve": "A parabola follows the scatter of its runs.",
    # The laws.
    "backtest_missed": "The recommended law missed held-out budgets by more than its interval explains.",
    "baseline_as_good": "A rule of thumb predicted held-out budgets as well as the default.",
    "exponent_unknown": "The exponent of N_opt is essentially unconstrained.",
    "exponents_not_separable": "N and D vary together, so alpha and beta cannot be told apart.",
    "methods_disagree": "Methods put N_opt far apart at ten times the largest budget.",
    "no_backtest": "There are too few budgets for a backtest, so the answer is untested.",
    "no_law": "No method could be fitted.",
    "not_converged": "An optimiser stopped before it converged.",
    "parameter_at_bound": "A fitted parameter ended at the bound of its range.",
    # One prediction.
    "below_sweep": "The prediction lies below the smallest fitted budget.",
    "extrapolation": "The prediction lies farther above the sweep than any backtest tested.",
    "flops_extrapolated": "FLOPs per token were not measured at the predicted size.",
    "no_useful_interval": "The interval of N_opt is too wide to act on.",
}
"""Code -> meaning, one sentence each. `tests/test_finding_codes.py` keeps the list and the code in step."""
