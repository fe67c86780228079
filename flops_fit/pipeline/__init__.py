"""The pipeline: from raw text to a validated small language model, sized by a scaling law of that text.

One file per stage, in the order of `stages.STAGES`; `run.run_pipeline` walks through them. What a user's program needs
is `load_model`, which imports torch, safetensors and tokenizers only.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flops_fit.pipeline.language_model import LanguageModel as LanguageModel
    from flops_fit.pipeline.language_model import load_model as load_model

__all__ = ["LanguageModel", "load_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from flops_fit.pipeline import language_model

        return getattr(language_model, name)
    raise AttributeError(f"module 'flops_fit.pipeline' has no attribute {name!r}")
