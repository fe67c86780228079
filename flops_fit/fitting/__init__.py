"""Fits scaling laws to finished runs, tests them on the runs themselves, and predicts.

`fit.py` calls everything in order:

- which rows enter, and as what: `selection.py`, `columns.py`, `flops_function.py`
- the methods, all from `methods.py`: `approach1.py`, `approach2.py` (`isoflop.py`, `line.py`, `envelope.py`),
  `approach3.py` (`joint.py`, `projection.py`), `extended/`, `data_constrained.py`, `counting.py`
- how sure: `uncertainty/`; how well the top budgets were foretold: `rollout.py`, `rollout_table.py`
- which one to use: `choice.py`; what to doubt: `diagnostics/`
- the answer: `scaling_laws.py`, `forecast.py`, `prediction.py`
- worlds whose truth is known: `simulation.py`
"""

from flops_fit.fitting.fit import fit
from flops_fit.fitting.laws import ChinchillaLaw
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.outcomes import IsoflopCurve, LawFit, RolloutRow
from flops_fit.fitting.prediction import Baseline, Estimate, Prediction
from flops_fit.fitting.scaling_laws import ScalingLaws
from flops_fit.fitting.simulation import mock_law, simulate_results

__all__ = [
    "Baseline",
    "ChinchillaLaw",
    "Estimate",
    "FitOptions",
    "IsoflopCurve",
    "LawFit",
    "Prediction",
    "RolloutRow",
    "ScalingLaws",
    "fit",
    "mock_law",
    "simulate_results",
]
