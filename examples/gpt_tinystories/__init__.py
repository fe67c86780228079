"""GPT on TinyStories: stories as samples of one length, and a loss that leaves padding out."""

from flops_fit.examples.gpt_tinystories.dataset import TinyStoriesDataset
from flops_fit.examples.gpt_tinystories.loss import gpt_loss_fn

__all__ = ["TinyStoriesDataset", "gpt_loss_fn"]
