"""The registry of fitting methods, and the call that fits all of them to one set of runs.

A new method is a file beside this one and an entry at the end of `METHODS`: at the end, because methods draw from
one random generator in this order, so an entry in between would change the resamples of those after it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from flops_fit.errors import ConfigError, FitError
from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.fitting.methods.approach1 import fit_approach1
from flops_fit.fitting.methods.approach2 import find_minima, fit_approach2
from flops_fit.fitting.methods.approach3 import fit_approach3, fit_windowed
from flops_fit.fitting.methods.data_constrained import fit_repeated_data
from flops_fit.fitting.methods.extended.law import fit_extended_law
from flops_fit.fitting.methods.farseer import fit_farseer
from flops_fit.fitting.methods.method import FitInputs, Method, NotApplicable
from flops_fit.fitting.methods.result import FittedMethod, IsoflopCurve, LawFit, refused_law
from flops_fit.fitting.options import FitOptions
from flops_fit.records import RunTable
from flops_fit.schema import unknown_name


def register(*methods: Method) -> tuple[Method, ...]:
    """Returns the methods as a registry; a name that two of them have is a ConfigError."""
    names = [method.name for method in methods]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"the fitting method {twice[0]!r} is registered twice, expected one entry per name. "
            "Rename one of them in flops_fit/fitting/methods/registry.py."
        )
    return methods


METHODS: tuple[Method, ...] = register(
    Method(name="approach1", title="Approach 1", fit=fit_approach1),
    Method(name="approach2", title="Approach 2", fit=fit_approach2, preference=4, stacked=True),
    Method(name="approach3", title="Approach 3", fit=fit_approach3, preference=3, has_surface=True),
    Method(
        name="windowed", title="Windowed Approach 3", fit=fit_windowed, preference=2, stacked=True, has_surface=True
    ),
    Method(
        name="extended",
        title="Extended law",
        fit=lambda inputs: fit_extended_law(inputs.log_runs, inputs.options),
        preference=1,
        stacked=True,
        stacked_loss=True,
        has_surface=True,
    ),
    Method(
        name="data_constrained", title="Data-constrained law", fit=fit_repeated_data, has_surface=True, min_budgets=0
    ),
    Method(
        name="farseer",
        title="Farseer's law",
        fit=lambda inputs: fit_farseer(inputs.log_runs, inputs.options),
        stacked_loss=True,
        has_surface=True,
    ),
)
STACK = "stack"
"""What a prediction names as its law where several answer together."""
BASELINE_TITLES = {
    "default": "Default choice",
    STACK: "Stack of laws",
    "ratio20": "Rule D/N = 20",
    "slope_half": "Rule a = 1/2",
}
"""What else has rows in the backtest table: the default as each backtest would choose it, and two rules of thumb."""


def method_title(name: str) -> str:
    """The title of a method or a baseline; an unknown name is its own title."""
    return next((method.title for method in METHODS if method.name == name), BASELINE_TITLES.get(name, name))


def method_phrase(name: str) -> str:
    """The title inside a sentence: "the extended law", "Approach 2"."""
    title = method_title(name)
    takes_article = title.endswith(" law") or name in BASELINE_TITLES
    return f"the {title[:1].lower()}{title[1:]}" if takes_article else title


def preferred_methods() -> tuple[str, ...]:
    """Names of the methods that may be the default, the preferred one first."""
    ranked = [(method.preference, method.name) for method in METHODS if method.preference is not None]
    return tuple(name for _, name in sorted(ranked))


def stacked_methods() -> tuple[str, ...]:
    """Names of the methods that answer together far outside the runs, and whose N_opt `methods_disagree` compares."""
    return tuple(method.name for method in METHODS if method.stacked)


def loss_methods() -> tuple[str, ...]:
    """Names of the methods that give the loss together."""
    return tuple(method.name for method in METHODS if method.stacked_loss)


def surface_methods() -> tuple[str, ...]:
    """Names of the methods with a loss L(N, D), by preference, those without a rank last."""
    surfaces = {method.name for method in METHODS if method.has_surface}
    ranked = [name for name in preferred_methods() if name in surfaces]
    return (*ranked, *(method.name for method in METHODS if method.has_surface and method.name not in ranked))


def selectable_methods() -> tuple[str, ...]:
    """Names that ``law=`` and ``--law`` take."""
    return tuple(method.name for method in METHODS if method.selectable)


def check_law(name: str | None) -> None:
    """Raises a ConfigError that names the nearest selectable method if none is called so; None is no name."""
    if name is not None and name not in selectable_methods():
        raise ConfigError(unknown_name("law", name, name, selectable_methods()))


def not_fitted(name: str, reason: str, fitted: Iterable[str]) -> FitError:
    """The error for a law that was asked for and not fitted to these runs."""
    others = ", ".join(fitted)
    advice = f"Ask for a fitted one ({others}), or leave the choice to the evidence." if others else "None was fitted."
    return FitError(f"law={name}: {method_phrase(name)} was not fitted to these runs: {reason.rstrip('.')}. {advice}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Methods:
    """All methods fitted to the same runs, each mapping in the registry's order."""

    log_runs: LogRuns
    curves: tuple[IsoflopCurve, ...]
    fitted: dict[str, FittedMethod]
    refused: dict[str, LawFit]
    not_applicable: dict[str, str]
    """Why a method is not meant for these runs, by name."""

    @property
    def reasons_not_fitted(self) -> dict[str, str]:
        """Why a method has no answer, refused ones and those that do not apply."""
        return {name: law.reason for name, law in self.refused.items()} | self.not_applicable

    @property
    def laws(self) -> dict[str, LawFit]:
        """The laws of fitted and refused methods."""
        found = {name: method.law for name, method in self.fitted.items()} | self.refused
        return {method.name: found[method.name] for method in METHODS if method.name in found}


def fit_methods(log_runs: LogRuns, options: FitOptions, *, count: int, all_runs: RunTable | None = None) -> Methods:
    """Fits all methods, each with ``count`` resamples; None for all finished runs leaves out what needs them."""
    rng = np.random.default_rng(options.seed)
    curves, minima = find_minima(log_runs, options, rng, count=count)
    inputs = FitInputs(
        log_runs=log_runs, minima=minima, options=options, rng=rng, num_resamples=count, all_runs=all_runs
    )
    outcomes = {method.name: _fit(method, inputs) for method in METHODS}
    return Methods(
        log_runs=log_runs,
        curves=curves,
        fitted={n: m for n, m in outcomes.items() if not isinstance(m, LawFit | NotApplicable)},
        refused={n: m for n, m in outcomes.items() if isinstance(m, LawFit)},
        not_applicable={n: m.reason for n, m in outcomes.items() if isinstance(m, NotApplicable)},
    )


def _fit(method: Method, inputs: FitInputs) -> FittedMethod | LawFit | NotApplicable:
    budgets = inputs.log_runs.num_budgets
    if budgets >= method.min_budgets:
        return method.fit(inputs)
    reason = f"{budgets} budgets; no exponent is taken from fewer than {method.min_budgets}."
    return refused_law(method.name, reason, len(inputs.log_runs))
