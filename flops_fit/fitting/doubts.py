"""What must a reader know before believing a number? All findings of one fit, from the three files beside."""

from flops_fit.fitting.doubts_of_curves import doubts_of_curves
from flops_fit.fitting.doubts_of_laws import doubts_of_laws
from flops_fit.fitting.doubts_of_runs import doubts_of_runs
from flops_fit.fitting.methods import Methods
from flops_fit.fitting.scaling_laws import ScalingLaws
from flops_fit.records import Finding

ORDER = {"error": 0, "warning": 1, "info": 2}


def find_doubts(laws: ScalingLaws, methods: Methods) -> tuple[Finding, ...]:
    """Everything worth saying, the worst first."""
    found = [
        *doubts_of_runs(laws.runs, methods.columns),
        *doubts_of_curves(methods),
        *doubts_of_laws(laws, methods),
    ]
    return tuple(sorted(found, key=lambda finding: ORDER[finding.level]))
