"""Reference tasks: models, data and losses to scale, and to copy from."""

from flops_fit.examples.gpt_stdlib import GPT, GPTConfig

__all__ = ["GPT", "GPTConfig"]
