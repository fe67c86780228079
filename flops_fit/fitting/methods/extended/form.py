"""The form of the extended law: its loss and its derivatives.

    L = E + (T1^(1/k) + T2^(1/k))^k
    ln T1 = u - integral of alpha from 0 to x,    ln alpha(x) = ln alpha0 + tau a(x)
    ln T2 = v - integral of beta from 0 to y + h e^(-y/2),    ln beta(y) = ln beta0 + tau b(y)

with x, y centred ln N, ln D. Chinchilla is k = 1, tau = h = 0. k sets how the two terms mix, h what short runs lose
beyond a power law of D (what an optimiser has not averaged out fades about so), and the local exponents alpha and beta
follow walks (`walk.py`), which are positive and return to their average outside the runs.

Source: ours; research/honesty-walk.md holds the measurements that chose it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flops_fit.fitting.methods.extended.walk import Walk
from flops_fit.records import FloatArray

NUM_PLAIN = 7
LN_E, U, V, LN_ALPHA, LN_BETA, LN_K, H = range(NUM_PLAIN)
"""The parameters of a row; after them come the coefficients of the walk in ln N, then of that in ln D."""
SHORTEST = -6.0
"""Below this y, which no run reaches, the excess loss of short runs stops growing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Form:
    """The law for rows of parameters (R, p); each row has its own tau."""

    walk_n: Walk
    walk_d: Walk
    tau: FloatArray
    """Standard deviation of ln alpha and ln beta along their walks, shape (R,)."""

    @property
    def num_parameters(self) -> int:
        """How many parameters a row has."""
        return int(NUM_PLAIN + self.walk_n.root.shape[1] + self.walk_d.root.shape[1])

    def basis(self, x: FloatArray, y: FloatArray) -> "Basis":
        """What the loss at centred logs, each (m,) or (R, m), needs whatever the parameters are."""
        return Basis(self.walk_n.integral(x), self.walk_d.integral(y), np.exp(-0.5 * np.maximum(y, SHORTEST)))

    def log_loss(self, rows: FloatArray, basis: "Basis") -> tuple[FloatArray, FloatArray]:
        """Log: ln L (R, m) and its derivatives by the parameters (R, m, p)."""
        terms = _Terms(self, rows, basis)
        log_loss = np.logaddexp(rows[:, [LN_E]], terms.log_reducible)
        reducible = np.exp(terms.log_reducible - log_loss)
        first, second = reducible * terms.share, reducible * (1 - terms.share)
        out = np.empty((*log_loss.shape, self.num_parameters))
        out[..., LN_E], out[..., U], out[..., V] = 1 - reducible, first, second
        out[..., LN_K] = reducible * terms.entropy * np.exp(rows[:, [LN_K]])
        out[..., H] = second * terms.half
        self._add_exponents(out, -first[..., None] * terms.travel_n, -second[..., None] * terms.travel_d)
        return log_loss, out

    def balance(self, rows: FloatArray, x: FloatArray, y: FloatArray, cost_slope: FloatArray) -> FloatArray:
        """Balance ln(gain of size) - ln(gain of data) along a budget, (R, m): positive where more parameters pay.

        ``cost_slope`` is how fast ln D falls per e-fold of N on the budget.
        """
        terms = _Terms(self, rows, self.basis(x, y))
        at_n, _, gain_d = self._local(rows, terms, x, y)
        ratio = (terms.log_first - terms.log_second) * np.exp(-rows[:, [LN_K]])
        return np.asarray(ratio + np.log(at_n.sum(-1)) - np.log(gain_d * cost_slope))

    def balance_gradient(self, rows: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
        """Derivatives of the balance by the parameters, (R, m, p)."""
        terms = _Terms(self, rows, self.basis(x, y))
        at_n, at_d, gain_d = self._local(rows, terms, x, y)
        inverse = np.exp(-rows[:, [LN_K]])
        out = np.zeros((*gain_d.shape, self.num_parameters))
        out[..., U], out[..., V] = inverse, -inverse
        out[..., LN_K] = -(terms.log_first - terms.log_second) * inverse
        out[..., H] = -terms.half * (inverse + 0.5 * (y > SHORTEST) / gain_d)
        by_n = at_n / at_n.sum(-1, keepdims=True) - terms.travel_n * inverse[..., None]
        self._add_exponents(out, by_n, terms.travel_d * inverse[..., None] - at_d / gain_d[..., None])
        return out

    def _local(
        self, rows: FloatArray, terms: "_Terms", x: FloatArray, y: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Shares of the knots in alpha at x and in beta at y, (R, m, knots), and -d ln T2 / d y."""
        at_n, at_d = self.walk_n.at(x) * terms.alpha, self.walk_d.at(y) * terms.beta
        beta = at_d.sum(-1)
        return at_n, at_d, np.maximum(beta + 0.5 * rows[:, [H]] * terms.half * (y > SHORTEST), 1e-3 * beta)

    def _add_exponents(self, out: FloatArray, by_n: FloatArray, by_d: FloatArray) -> None:
        """Fills the derivatives by the exponents from those by the log exponents at the knots, (R, m, knots)."""
        out[..., LN_ALPHA], out[..., LN_BETA] = by_n.sum(-1), by_d.sum(-1)
        tau = self.tau[:, None, None]
        middle = NUM_PLAIN + self.walk_n.root.shape[1]
        out[..., NUM_PLAIN:middle] = tau * (by_n @ self.walk_n.root)
        out[..., middle:] = tau * (by_d @ self.walk_d.root)


class Basis(NamedTuple):
    """Integrals of the hat functions to x and to y, (..., knots), and e^(-y/2)."""

    n: FloatArray
    d: FloatArray
    half: FloatArray


class _Terms:
    """What the loss and its derivatives share."""

    def __init__(self, form: Form, rows: FloatArray, basis: Basis) -> None:
        middle = NUM_PLAIN + form.walk_n.root.shape[1]
        tau = form.tau[:, None]
        alpha = np.exp(rows[:, [LN_ALPHA]] + tau * (rows[:, NUM_PLAIN:middle] @ form.walk_n.root.T))
        beta = np.exp(rows[:, [LN_BETA]] + tau * (rows[:, middle:] @ form.walk_d.root.T))
        self.alpha, self.beta = alpha[:, None, :], beta[:, None, :]
        """Exponents at the knots, (R, 1, knots)."""
        self.travel_n, self.travel_d = basis.n * self.alpha, basis.d * self.beta
        self.half = basis.half
        self.log_first = rows[:, [U]] - self.travel_n.sum(-1)
        self.log_second = rows[:, [V]] - self.travel_d.sum(-1) + rows[:, [H]] * self.half
        k = np.exp(rows[:, [LN_K]])
        first, second = self.log_first / k, self.log_second / k
        total = np.logaddexp(first, second)
        self.share = np.exp(first - total)
        self.log_reducible = k * total
        self.entropy = total - self.share * first - (1 - self.share) * second
