"""A sweep of seconds."""

SMALL = [
    "sweep.compute_budgets=[1e8,2e8,4e8,8e8,1.6e9]", "sweep.num_sizes_per_budget=4", "sweep.max_size=32",
    "sweep.limits.min_tokens_per_param=0.1",
]  # fmt: skip
