"""Architecture of the pipeline's models: the reference GPT, which lives with the examples."""

from importlib import import_module
from typing import Any

MODULE = "flops_fit.examples.gpt_stdlib.model"
SIZE_PARAM = "d_model"
SHAPE = {"n_layer": 2, "n_head": 2}
"""Of every size; only ``d_model`` grows."""
TIED = "head.weight"
"""Shares its memory with the table of the tokens; left out of saved weights, so that these hold N numbers."""


def architecture() -> Any:
    """Returns the module with ``GPT`` and ``cross_entropy``; by name, as the examples are no room of the package."""
    return import_module(MODULE)
