"""Fits scaling laws to finished runs, backtests them on the runs themselves, and predicts.

`fit.py` calls everything in order:

- options: `options.py`; runs: `inputs/` (logs, exclusions, repeats, condensing), `outliers.py`, `flops_function.py`
- methods: `methods/registry.py` lists them all, `methods/method.py` defines an entry; `approach1.py` and `approach2.py`
  (`optimum_line.py`), `approach3.py` (`chinchilla/`), `extended/`, `farseer.py`, `data_constrained.py`
- uncertainty: `uncertainty/`; errors on held-out budgets, the model-form error, several laws together, and the choice
  of the law: `backtest/`; findings: `diagnostics/`; verdict: `trust.py`
- result: `scaling_laws.py`, `prediction.py`; other counts of N: `parameter_counts.py`
- what a planner asks, without backtests: `posterior.py`
- laws as values: `laws.py`; simulated results: `simulation.py`
"""

from flops_fit.fitting.fit import fit
from flops_fit.fitting.laws import ChinchillaLaw
from flops_fit.fitting.methods.registry import (
    check_law,
    method_phrase,
    method_title,
    selectable_methods,
    surface_methods,
)
from flops_fit.fitting.methods.result import BacktestRow, IsoflopCurve, LawFit
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.posterior import Posterior, fit_posterior
from flops_fit.fitting.prediction import Baseline, Estimate, Prediction
from flops_fit.fitting.scaling_laws import ScalingLaws
from flops_fit.fitting.simulation import mock_law, simulate_results

__all__ = [
    "BacktestRow",
    "Baseline",
    "ChinchillaLaw",
    "Estimate",
    "FitOptions",
    "IsoflopCurve",
    "LawFit",
    "Posterior",
    "Prediction",
    "ScalingLaws",
    "check_law",
    "fit",
    "fit_posterior",
    "method_phrase",
    "method_title",
    "mock_law",
    "selectable_methods",
    "simulate_results",
    "surface_methods",
]
