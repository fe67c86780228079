"""The law of a condition, as the manifest holds it."""

from typing import Any

from flops_fit.fitting import ScalingLaws


def describe_law(laws: ScalingLaws, name: str, compute: float) -> dict[str, Any]:
    """The ``law`` of a manifest: its exponent, and its loss at one compute, with intervals at the fit's level."""
    law, prediction = laws.laws[name], laws.predict(compute, law=name)
    assert law.a is not None
    return {
        "name": name,
        "a": law.a.value,
        "a_interval": [law.a.low, law.a.high],
        "common_compute": compute,
        "loss_at_common_compute": prediction.loss,
        "loss_interval": list(prediction.loss_interval),
        "n_opt_at_common_compute": prediction.num_params,
        "n_opt_interval": list(prediction.num_params_interval),
        "level": prediction.level,
        "min_compute": laws.min_compute,
        "max_compute": laws.max_compute,
        "budgets": len(laws.isoflop_curves),
        "runs_used": len(laws.runs),
        "runs_excluded": len(laws.runs_excluded),
        "trust": prediction.trust.level,
        "trust_headline": prediction.trust.headline,
        "findings": [finding.code for finding in laws.findings],
    }
