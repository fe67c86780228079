"""Diagnostics: the findings about the runs, the curves and the laws of one fit."""

from flops_fit.fitting.diagnostics.curves import diagnose_curves
from flops_fit.fitting.diagnostics.laws import diagnose_laws
from flops_fit.fitting.diagnostics.runs import diagnose_runs
from flops_fit.fitting.methods.registry import Methods
from flops_fit.fitting.scaling_laws import ScalingLaws
from flops_fit.records import Finding

ORDER = {"error": 0, "warning": 1, "info": 2}


def diagnose(laws: ScalingLaws, methods: Methods) -> tuple[Finding, ...]:
    """All findings, the gravest first."""
    found = [*diagnose_runs(laws.runs, methods.log_runs), *diagnose_curves(methods), *diagnose_laws(laws, methods)]
    return tuple(sorted(found, key=lambda finding: ORDER[finding.level]))
