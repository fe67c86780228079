"""Presets: the grid and the recipe of a sweep, for each source of images."""

from typing import Any

RECIPE: dict[str, Any] = {
    "reference_params": 10_000,
    "learning_rate": 0.013,
    "learning_rate_exponent": -0.2,
    "max_learning_rate": 0.03,
    "batch_tokens": 16,
    "batch_exponent": 0,
}
"""``batch_tokens`` counts images, as D does. With 64 images a step the optimum lies at D/N = 25 rather than 8, and the
60,000 images of Fashion-MNIST would be repeated from 1e10 FLOPs on.

Of the learning rates 0.003, 0.006, 0.012 and 0.024 at 10,000 parameters, with an exponent of -0.5, the best on
Fashion-MNIST were 0.018 at 1,130 parameters, 0.025 at 2,378 and 0.014 at 7,818, each flat to 2 % over a factor of 2."""

FASHION_MNIST: dict[str, Any] = {
    "compute_budgets": [3e8, 6e8, 1.2e9, 2.4e9, 4.8e9, 9.6e9],
    "num_sizes_per_budget": 7,
    "min_size": 3,
    "max_size": 64,
    "size_multiple": 1,
    "center_tokens_per_param": 7,
    "half_width": 4,
    # One epoch: a law of unrepeated data.
    "limits": {"min_tokens_per_param": 0.3, "max_epochs": 1},
    "recipe": RECIPE,
}
# Not tried on CIFAR-10 itself, which needs the hub.
CIFAR10: dict[str, Any] = {
    "compute_budgets": [4e9, 8e9, 1.6e10, 3.2e10, 6.4e10, 1.28e11],
    "num_sizes_per_budget": 7,
    "min_size": 4,
    "max_size": 40,
    "size_multiple": 2,
    "center_tokens_per_param": 7,
    "half_width": 5,
    "limits": {"min_tokens_per_param": 0.3, "max_epochs": 4},
    "recipe": RECIPE,
}
SHAPES: dict[str, Any] = {
    **FASHION_MNIST,
    "compute_budgets": [6e8, 1.2e9, 2.4e9, 4.8e9, 9.6e9, 1.92e10],
    "max_size": 32,
}
# 1,438 training images end the largest budgets after 4 epochs: this shows the way, and its findings say what it lacks.
DIGITS: dict[str, Any] = {
    "compute_budgets": [4e7, 8e7, 1.6e8, 3.2e8, 6.4e8],
    "num_sizes_per_budget": 6,
    "min_size": 2,
    "max_size": 32,
    "size_multiple": 2,
    "center_tokens_per_param": 2,
    "half_width": 5,
    "limits": {"min_tokens_per_param": 0.1, "max_epochs": 4},
    "recipe": RECIPE,
}
