"""The calls that users make: a whole sweep from a model class, a plan alone, a sweep of a task."""

from flops_fit.api.single_run import train_one
from flops_fit.api.sweeps import plan_task, run_sweep, simulate_sweep, train_into
from flops_fit.api.user_models import find_optimal, plan_sweep

__all__ = ["find_optimal", "plan_sweep", "plan_task", "run_sweep", "simulate_sweep", "train_into", "train_one"]
