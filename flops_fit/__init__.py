"""flops-fit: how big a model, how much data, what loss, and how sure; for your architecture and your data."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flops_fit.api import find_optimal as find_optimal
    from flops_fit.api import plan_sweep as plan_sweep
    from flops_fit.api import run_sweep as run_sweep
    from flops_fit.api import train_one as train_one
    from flops_fit.errors import FlopsFitError as FlopsFitError
    from flops_fit.fitting import FitOptions as FitOptions
    from flops_fit.fitting import Prediction as Prediction
    from flops_fit.fitting import ScalingLaws as ScalingLaws
    from flops_fit.fitting import fit as fit
    from flops_fit.fitting import simulate_results as simulate_results
    from flops_fit.records import Experiment as Experiment
    from flops_fit.records import RunTable as RunTable
    from flops_fit.records import SweepPlan as SweepPlan
    from flops_fit.result import Result as Result
    from flops_fit.result import load_runs as load_runs

__version__ = "0.1.0"

# Resolved on first use, so that fitting a table of runs never imports torch.
_HOMES = {
    "find_optimal": "flops_fit.api",
    "plan_sweep": "flops_fit.api",
    "run_sweep": "flops_fit.api",
    "FlopsFitError": "flops_fit.errors",
    "FitOptions": "flops_fit.fitting",
    "Prediction": "flops_fit.fitting",
    "ScalingLaws": "flops_fit.fitting",
    "fit": "flops_fit.fitting",
    "simulate_results": "flops_fit.fitting",
    "Experiment": "flops_fit.records",
    "RunTable": "flops_fit.records",
    "SweepPlan": "flops_fit.records",
    "Result": "flops_fit.result",
    "load_runs": "flops_fit.result",
    "train_one": "flops_fit.api",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'flops_fit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
