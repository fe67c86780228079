"""Report: ``training_metrics.json``, and one HTML page for the reader."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from flops_fit.files import replace_file
from flops_fit.pipeline.metrics import make_metrics
from flops_fit.pipeline.stages import STAGES, Context, Outcome
from flops_fit.quantities import format_bytes, format_count, format_factor, format_flops, format_loss

METRICS, PATH = "training_metrics.json", "report/index.html"
SAMPLES_SHOWN = 2
"""Of each language."""
NEGLIGIBLE_NATS, NEGLIGIBLE_FACTOR = 0.001, 1.05


def run(context: Context) -> Outcome:
    """Writes both."""
    metrics = make_metrics(context)
    replace_file(context.root / PATH, make_page(metrics, context.root).encode())
    replace_file(
        context.root / METRICS, (json.dumps(metrics, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()
    )
    return Outcome(outputs=(METRICS, PATH), summary=f"{PATH}, {METRICS}")


def make_page(metrics: Mapping[str, Any], root: Path) -> str:
    """Returns the page of a run."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader([Path(__file__).parent, Path(__file__).parents[1] / "reporting"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "count": format_count, "flops": format_flops, "loss": format_loss,
    }  # fmt: skip
    shown = []
    for lang in metrics["validation"]["per_language"]:
        shown += [s for s in metrics["validation"]["samples"] if s["lang"] == lang][:SAMPLES_SHOWN]
    return templates.get_template("pipeline.html.j2").render(
        m=metrics,
        verdict=verdict(metrics),
        bits=metrics["training"]["history"] and _bits_per_byte(metrics),
        difference_cost=difference_cost(metrics["fit"]["compute_optimal"]),
        figure=draw_history(metrics),
        samples=shown,
        artifacts=_artifacts(metrics, root),
        has_sweep=(root / "sweep/report/index.html").is_file(),
    )


def verdict(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The first line of the page: whether the law was trusted and held, and whether validation passed."""
    fit, checks = metrics["fit"], metrics["validation"]["checks"]
    missed = [check["name"] for check in checks if check["passed"] is False]
    judged = sum(check["passed"] is not None for check in checks)
    validation = f"Limits missed: {', '.join(missed)}." if missed else f"All {judged} judged limits of validation met."
    if not fit["trusted"]:
        return {"level": "no", "text": f"Size not trusted: {fit['reason'].rstrip('.')}. {validation}"}
    held = metrics["outcome"]["inside_interval"]
    text = "The measured loss lies inside" if held else "The measured loss lies OUTSIDE"
    level = "no" if missed or held is False else ("ok" if fit["reason"].startswith("No check") else "care")
    return {"level": level, "text": f"{text} the interval predicted before training. {validation} {fit['reason']}"}


def difference_cost(optimum: Mapping[str, Any] | None) -> str | None:
    """What the trained size and tokens cost against the compute-optimal ones; None if unknown."""
    if optimum is None or optimum["loss_difference"] is None:
        return None
    difference, factor = optimum["loss_difference"], optimum["compute_factor"]
    if difference < NEGLIGIBLE_NATS or (factor is not None and factor < NEGLIGIBLE_FACTOR):
        return "The expected losses of both are equal: the trained size is the one nearest to the optimum."
    text = f"The trained model is expected to be {difference:.3f} nats per token worse than the compute-optimal one"
    if factor is None:
        return f"{text}."
    return f"{text}, which reaches the same loss with {format_factor(factor)} less compute."


def draw_history(metrics: Mapping[str, Any]) -> str:
    """Losses over tokens, with the predicted interval at the end; a data URI."""
    from matplotlib.figure import Figure

    history, prediction = metrics["training"]["history"], metrics["prediction"]
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    tokens = [entry["tokens"] for entry in history]
    axes.plot(tokens, [entry["val_loss"] for entry in history], marker="o", markersize=4, label="held-out loss")
    train = [(entry["tokens"], entry["train_loss"]) for entry in history if entry["train_loss"] is not None]
    axes.plot([t for t, _ in train], [v for _, v in train], linestyle="--", label="training loss (mean since before)")
    if prediction is not None:
        low, high = prediction["interval"]
        axes.errorbar(
            [prediction["num_tokens"]], [prediction["loss"]],
            yerr=[[prediction["loss"] - low], [high - prediction["loss"]]], fmt="s", markersize=4, capsize=5,
            color="black", label="predicted before training, 90 %",
        )  # fmt: skip
    axes.set(xlabel="training tokens", ylabel="loss, nats per token")
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _bits_per_byte(metrics: Mapping[str, Any]) -> str:
    found = metrics["validation"]
    ratio = found["val_bits_per_byte"] / found["unigram_bits_per_byte"]
    return f"{found['val_bits_per_byte']:.3f} bits per byte, {ratio:.2f} of the unigram model's"


def _artifacts(metrics: Mapping[str, Any], root: Path) -> list[tuple[str, str, str]]:
    """Stage, file and size, in the order of the stages."""
    order = [stage.name for stage in STAGES]
    return [
        (stage["name"], path, format_bytes((root / path).stat().st_size))
        for stage in sorted(metrics["stages"], key=lambda s: order.index(s["name"]))
        for path in stage["outputs"]
        if (root / path).is_file()
    ]
