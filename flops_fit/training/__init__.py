"""The training engine: one loop, exact in what it spends."""

from flops_fit.training.experiment import train_experiment
from flops_fit.training.settings import TrainSettings
from flops_fit.training.sweep import train_sweep

__all__ = ["TrainSettings", "train_experiment", "train_sweep"]
