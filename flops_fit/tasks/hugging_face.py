"""Hugging Face models: the factory to write where a class, an instance, a configuration or a name was given.

Their classes take a configuration, so that ``model_cls(**{size_param: n})`` cannot build them. They are recognised by
attributes of their bases; transformers is not imported here.
"""

import inspect
from typing import Any

from torch import nn

LARGE = ("vocab_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
"""Arguments of most configurations whose defaults are those of a large model."""


def advice_for(model_cls: Any, size_param: str) -> str | None:
    """Returns why something of Hugging Face cannot be ``model_cls``, and the factory; None for everything else."""
    owner = getattr(model_cls, "__self__", None)  # AutoModelForCausalLM.from_config
    if isinstance(model_cls, str):
        return (
            f"got the name {model_cls!r}, expected a class or a factory. For the architecture of a Hugging Face model, "
            f"without its weights: def make({size_param}, **kw): return AutoModelForCausalLM.from_config("
            f"AutoConfig.from_pretrained({model_cls!r}, {size_param}={size_param}, **kw))"
        )
    if any(inspect.isclass(kind) and hasattr(kind, "_model_mapping") for kind in (model_cls, owner)):
        kind = owner or model_cls
        wrapped = f"AutoConfig.for_model('llama', {size_param}={size_param}, **kw)"
        return (
            f"{kind.__name__} takes a configuration, not {size_param}=n. Wrap it in a function: "
            f"def make({size_param}, **kw): return {kind.__name__}.from_config({wrapped})"
        )
    config = _config_class(model_cls)
    if config is None:
        return None
    if config in (model_cls, type(model_cls)):
        what = f"got {config.__name__}, the configuration of a model, expected the model"
        model = "AutoModelForCausalLM.from_config"
    elif isinstance(model_cls, nn.Module):
        model = type(model_cls).__name__
        what = f"got an instance of {model}, expected a factory, so that models of several sizes can be built"
    elif inspect.isclass(model_cls) and size_param not in inspect.signature(model_cls).parameters:
        model = model_cls.__name__
        what = f"{model} takes a configuration, not {size_param}=n"
    else:
        return None
    return (
        f"{what}. Wrap it in a function: def make({size_param}, **kw): return "
        f"{model}({config.__name__}({size_param}={size_param}, **kw)){_defaults(config, size_param)}"
    )


def _config_class(thing: Any) -> Any:
    """The configuration class of a model class or instance, or a configuration's own; None of other things."""
    kind = thing if inspect.isclass(thing) else type(thing)
    if hasattr(kind, "model_type") and hasattr(kind, "to_diff_dict"):
        return kind
    return getattr(kind, "config_class", None)


def _defaults(config: Any, size_param: str) -> str:
    """What else to set: a sweep of small models needs other sizes than the defaults."""
    try:
        plain = config()
    except Exception:
        return ""  # Some configurations have no defaults.
    if not hasattr(plain, size_param):
        return f". But {config.__name__} has no {size_param}: name one of its arguments"
    known = ", ".join(f"{n}={getattr(plain, n)}" for n in LARGE if n != size_param and hasattr(plain, n))
    return f". Set the other sizes in model_kwargs; the defaults are of a large model ({known})" if known else ""
