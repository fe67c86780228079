"""Reference tasks: models, data and losses to scale, and to copy from. Each name is imported on first use."""

import importlib
from typing import Any

_HOMES = {
    "GPT": "flops_fit.examples.gpt_stdlib",
    "GPTConfig": "flops_fit.examples.gpt_stdlib",
    "TinyStoriesDataset": "flops_fit.examples.gpt_tinystories",
    "gpt_loss_fn": "flops_fit.examples.gpt_tinystories",
    "VisionTransformer": "flops_fit.examples.vit_cifar",
    "CIFAR10Dataset": "flops_fit.examples.vit_cifar",
    "vit_loss_fn": "flops_fit.examples.vit_cifar",
}

__all__ = [
    "GPT",
    "CIFAR10Dataset",
    "GPTConfig",
    "TinyStoriesDataset",
    "VisionTransformer",
    "gpt_loss_fn",
    "vit_loss_fn",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'flops_fit.examples' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
