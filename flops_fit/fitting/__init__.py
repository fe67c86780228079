"""Fits scaling laws to finished runs, tests them on the runs themselves, and predicts."""

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
