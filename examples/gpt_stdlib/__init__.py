"""The built-in task: a small GPT on the sources of Python's standard library, byte by byte."""

from flops_fit.examples.gpt_stdlib.model import GPT, GPTConfig, cross_entropy
from flops_fit.examples.gpt_stdlib.task import build_task

__all__ = ["GPT", "GPTConfig", "build_task", "cross_entropy"]
