"""Expected loss as a function of N and D, also where training passes over its data more than once.

Repeated tokens are worth less: a law L(N, D) is asked at the effective tokens D' of Muennighoff et al. 2023
(arXiv:2305.16264, eq. 5). Their constant R comes from the user's sweep where it constrains it, else from the paper.
"""

from dataclasses import dataclass

import numpy as np

from flops_fit.errors import ConfigError, FitError
from flops_fit.fitting import ScalingLaws
from flops_fit.fitting.inputs.repeats import effective_tokens
from flops_fit.records import FloatArray

LAW = "data_constrained"
PUBLISHED_R = (15.4, 5.0, 95.0)
"""R_D of their fit, and the two ends of its flat valley on their 182 runs (research/fitting.md, section 1)."""
LEVEL = 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class LossSurface:
    """L(N, D) with its interval."""

    laws: ScalingLaws
    law: str
    """Name of the method."""
    unique_tokens: int
    repeat_constants: tuple[float, float, float] | None
    """R, and the ends of its interval; None where no token is repeated."""
    about: str
    """Where R comes from, for people; "" without repeats."""
    level: float = LEVEL

    def loss_at(self, num_params: FloatArray, num_tokens: FloatArray | float) -> tuple[FloatArray, ...]:
        """Expected loss of each size (m,) at D, one or (m,), and the ends of its interval; that of R is part of it."""
        d = np.broadcast_to(np.asarray(num_tokens, dtype=np.float64), num_params.shape)
        found = [self._at(num_params, tokens) for tokens in self._effective(d)]
        value = found[0][0]
        low, high = np.min([f[1] for f in found], axis=0), np.max([f[2] for f in found], axis=0)
        return value, low, high

    def _effective(self, num_tokens: FloatArray) -> list[FloatArray]:
        if self.repeat_constants is None:
            return [num_tokens]
        unique = np.full(len(num_tokens), float(self.unique_tokens))
        return [effective_tokens(num_tokens, unique, r) for r in self.repeat_constants]

    def _at(self, num_params: FloatArray, tokens: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        # Of the recommended law the loss is what `flops-fit predict` says, by all laws that give it together.
        asked = None if self.law == self.laws.recommended else self.law
        found = self.laws.loss_at(num_params, tokens, law=asked, level=self.level)
        assert found is not None
        return found


def surface_of(laws: ScalingLaws, unique_tokens: int, *, repeats: bool) -> LossSurface | None:
    """Returns the surface of the recommended law, or of the next one that has one; None where none has.

    Args:
        laws: Of the sweep.
        unique_tokens: Training tokens.
        repeats: Whether they are to be repeated.
    """
    fitted = laws.laws.get(LAW)
    own = fitted is not None and fitted.outcome == "converged" and "R" in fitted.parameters
    names = [n for n in (LAW if repeats and own else None, laws.recommended, "extended", "approach3", LAW) if n]
    law = next((name for name in names if _has_surface(laws, name)), None)
    if law is None:
        return None
    if not repeats:
        return LossSurface(laws=laws, law=law, unique_tokens=unique_tokens, repeat_constants=None, about="")
    if law == LAW and own and fitted is not None:
        r = fitted.parameters["R"]
        about = f"Repeated tokens count by the data-constrained law of this sweep, R = {r.value:.3g}."
        constants = (r.value, r.low, r.high)
    else:
        about = (
            f"Repeated tokens count by R = {PUBLISHED_R[0]:g} of Muennighoff et al. 2023: too few runs of this sweep "
            "repeat their data to fit it."
        )
        constants = PUBLISHED_R
    return LossSurface(laws=laws, law=law, unique_tokens=unique_tokens, repeat_constants=constants, about=about)


def _has_surface(laws: ScalingLaws, name: str) -> bool:
    try:
        return laws.loss_at(float(laws.runs.num_params[0]), float(laws.runs.num_tokens[0]), law=name) is not None
    except (ConfigError, FitError):
        return False
