"""Spreads: uncertain numbers in logs, as they are passed on inside the fitting room."""

from dataclasses import dataclass, replace

import numpy as np

from flops_fit.records import FloatArray, Interval

# Of a float, with room for a factor.
MAX_LOG = 700.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """Values with half-widths at one level, all in logs and of one shape."""

    value: FloatArray
    down: FloatArray
    """Statistical half-width below, >= 0."""
    up: FloatArray
    """Statistical half-width above, >= 0."""
    form: FloatArray
    """Half-width that the law's own form adds, >= 0."""

    floor: FloatArray | float = -np.inf
    """Lowest possible value, such as one parameter."""
    ceiling: FloatArray | float = np.inf

    def widened(self, form: FloatArray) -> "Spread":
        """Returns the same with ``form`` added in quadrature to the form part."""
        return replace(self, form=np.hypot(self.form, form))

    def bounded(self, floor: FloatArray | float, ceiling: FloatArray | float) -> "Spread":
        """Returns the same with value and ends held between what is possible."""
        return replace(self, value=np.clip(self.value, floor, ceiling), floor=floor, ceiling=ceiling)

    def intervals(self, level: float) -> list[Interval]:
        """The values with their ends, one interval each."""
        rows = zip(self.value.tolist(), self.low.tolist(), self.high.tolist(), strict=True)
        return [Interval(value=value, low=low, high=high, level=level) for value, low, high in rows]

    @property
    def low(self) -> FloatArray:
        """Lower end, statistical and form parts together."""
        return np.asarray(np.clip(self.value - np.hypot(self.down, self.form), self.floor, self.ceiling))

    @property
    def high(self) -> FloatArray:
        """Upper end."""
        return np.asarray(np.clip(self.value + np.hypot(self.up, self.form), self.floor, self.ceiling))


def spread_of_replicates(rows: FloatArray, level: float) -> Spread:
    """Spread of the point values in row 0 of (1 + R, m) by the percentiles of the other rows, widened to hold them."""
    value, zero = rows[0], np.zeros_like(rows[0])
    tail = (1 - level) / 2
    low, high = np.quantile(rows[1:], [tail, 1 - tail], axis=0)
    return Spread(value=value, down=np.maximum(value - low, 0), up=np.maximum(high - value, 0), form=zero)


def interval_of(values: FloatArray, level: float) -> Interval:
    """Interval of row 0 by the percentiles of the other rows, widened to hold it."""
    low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    value = float(values[0])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value), level=level)


def exp_interval(interval: Interval) -> Interval:
    """Returns an interval in logs in natural units; what no float holds is the largest one."""
    value, low, high = (float(np.exp(min(end, MAX_LOG))) for end in (interval.value, interval.low, interval.high))
    return replace(interval, value=value, low=low, high=high)


def widened_interval(interval: Interval, added: float) -> Interval:
    """Returns the interval with a half-width added in quadrature on both sides."""
    down, up = (np.hypot(interval.value - interval.low, added), np.hypot(interval.high - interval.value, added))
    return replace(interval, low=float(interval.value - down), high=float(interval.value + up))
