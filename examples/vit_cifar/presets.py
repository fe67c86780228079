"""Presets: the grid and the recipe of a sweep for each source of images."""

from typing import Any

RECIPE: dict[str, Any] = {
    "reference_params": 10000,
    "learning_rate": 0.006,
    "learning_rate_exponent": -0.5,
    "max_learning_rate": 0.03,
    "batch_tokens": 32,
    "batch_exponent": 0,
}
"""``batch_tokens`` counts images, as D does."""

FASHION_MNIST: dict[str, Any] = {
    "compute_budgets": [2e8, 4e8, 8e8, 1.6e9, 3.2e9, 6.4e9],
    "num_sizes_per_budget": 6,
    "min_size": 2,
    "max_size": 64,
    "size_multiple": 2,
    "center_tokens_per_param": 9,
    "half_width": 5,
    "limits": {"min_tokens_per_param": 0.3, "max_epochs": 1},
    "recipe": RECIPE,
}
CIFAR10 = FASHION_MNIST
SHAPES = FASHION_MNIST
DIGITS = FASHION_MNIST
