"""What must a reader know before believing a number? All findings of one fit, from the three files beside."""

from flops_fit.fitting.diagnostics.curves import diagnose_curves
from flops_fit.fitting.diagnostics.laws import diagnose_laws
from flops_fit.fitting.diagnostics.runs import diagnose_runs
from flops_fit.fitting.methods.registry import Methods
from flops_fit.fitting.scaling_laws import ScalingLaws
from flops_fit.records import Finding

ORDER = {"error": 0, "warning": 1, "info": 2}


def diagnose(laws: ScalingLaws, methods: Methods) -> tuple[Finding, ...]:
    """Everything worth saying, the worst first."""
    found = [
        *diagnose_runs(laws.runs, methods.log_runs),
        *diagnose_curves(methods),
        *diagnose_laws(laws, methods),
    ]
    return tuple(sorted(found, key=lambda finding: ORDER[finding.level]))
