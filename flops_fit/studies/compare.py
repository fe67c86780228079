"""Comparison of a study's conditions by the laws of their sweeps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flops_fit.errors import FitError, InputError
from flops_fit.fitting import ScalingLaws, method_title
from flops_fit.fitting.comparison import Comparison, common_compute, common_law, compare_laws
from flops_fit.quantities import format_flops
from flops_fit.result import load_result
from flops_fit.schema import to_plain
from flops_fit.studies.law import describe_law
from flops_fit.studies.manifest import Entry, newest, read_entries, read_manifest
from flops_fit.studies.results import plain_result


def compare_study(artifact_root: Path) -> Comparison:
    """Compares all conditions of which a sweep is completed, as fitted again from the sweeps' folders.

    Raises:
        InputError: If there is no manifest, or fewer than two such conditions.
        FitError: If their runs support no common law.
    """
    read_manifest(artifact_root)
    entries = swept(artifact_root, {})
    if len(entries) < 2:
        raise InputError(
            f"{artifact_root}: got {len(entries)} completed sweep{'s' * (len(entries) != 1)}, expected two or more "
            "conditions. Run `flops-fit study run ... --runner sweep`, such as with --view dense --view baseline."
        )
    return compare_laws(_laws(artifact_root, entries))


def share_compute(artifact_root: Path, inputs: Mapping[str, str]) -> dict[str, Entry]:
    """The completed sweeps' entries with their law at the largest compute that all of them reach, by job id.

    Conditions that cannot be compared keep what each says by itself.
    """
    entries = swept(artifact_root, inputs)
    laws = _laws(artifact_root, entries)
    try:
        compute, law = common_compute(laws), common_law(laws)
    except (InputError, FitError):
        return {}
    return {
        name: {**entry, "result": plain_result({**entry["result"], "law": describe_law(laws[name], law, compute)})}
        for name, entry in entries.items()
    }


def swept(artifact_root: Path, inputs: Mapping[str, str]) -> dict[str, Entry]:
    """The newest completed sweep of each condition, by job id; ``inputs`` names those to prefer."""
    completed = [e for e in read_entries(artifact_root) if e["result"]["status"] == "completed" and _has_law(e)]
    held = {e["job_id"]: e["input_sha256"] for e in completed if inputs.get(e["job_id"]) == e["input_sha256"]}
    return dict(sorted(newest(completed, held).items(), key=lambda item: (item[1]["dose"], item[0])))


def describe_comparison(comparison: Comparison) -> list[str]:
    """Lines for people; the last one is the verdict, the one before it says whose law is not to be used."""
    pairs = len(comparison.differences)
    level = f"{comparison.level:.0%}".replace("%", " %")
    lines = [
        f"{method_title(comparison.law)}, at {format_flops(comparison.compute)} FLOPs, the largest compute that all "
        f"conditions reach; {level} intervals:",
        *(
            f"  {c.name}: loss {c.loss.value:.4g} [{c.loss.low:.4g}, {c.loss.high:.4g}], "
            f"N_opt ~ C^{c.a.value:.3f} [{c.a.low:.3f}, {c.a.high:.3f}], trust: {c.trust}"
            for c in comparison.conditions
        ),
        f"Differences, first minus second; all {2 * pairs} intervals hold jointly at {level} (Bonferroni: each by "
        f"itself at {comparison.single_level:.2%}):",
    ]
    for d in comparison.differences:
        lines += [
            f"  {d.first} - {d.second}: loss {d.loss.value:+.4g} [{d.loss.low:+.4g}, {d.loss.high:+.4g}] "
            f"({d.relative_loss.value:+.1%} [{d.relative_loss.low:+.1%}, {d.relative_loss.high:+.1%}]), "
            f"exponent a {d.a.value:+.3f} [{d.a.low:+.3f}, {d.a.high:+.3f}]",
            f"    parts of the loss difference, sd: statistical {d.loss_parts.statistical:.2g}, model form "
            f"{d.loss_parts.form:.2g}, held-out set {d.loss_parts.held_out:.2g}",
        ]
    if comparison.differing and pairs > 1:
        lines.append("Pairs that differ: " + "; ".join(f"{d.first} and {d.second}" for d in comparison.differing) + ".")
    if comparison.untrusted:
        doubts = [
            f"{c.name}: {'only its loss enters the verdict' if c.loss_decides else 'it does not enter the verdict'} "
            f"({c.headline.removeprefix('DO NOT USE THIS ANSWER: ').rstrip('.')})"
            for c in comparison.untrusted
        ]
        lines.append(f"Untrusted laws: {'; '.join(doubts)}.")
    return [*lines, "they differ" if comparison.differing else f"they do not differ at {level}"]


def plain_comparison(comparison: Comparison) -> dict[str, Any]:
    """The object that `study compare --json` prints."""
    return {
        "compute": comparison.compute,
        "law": comparison.law,
        "level": comparison.level,
        "single_level": comparison.single_level,
        "correction": "Bonferroni over pairs and over loss and exponent",
        "parts": ["statistical", "form", "held_out"],
        "conditions": [
            {
                "job_id": c.name, "loss": c.loss.value, "loss_interval": [c.loss.low, c.loss.high],
                "loss_sd": to_plain(c.loss_parts), "a": c.a.value, "a_interval": [c.a.low, c.a.high],
                "trust": {"level": c.trust, "headline": c.headline},
                "decides": {"loss": c.loss_decides, "a": c.exponent_decides},
            }
            for c in comparison.conditions
        ],
        "differences": [
            {
                "first": d.first, "second": d.second, "loss": d.loss.value, "loss_interval": [d.loss.low, d.loss.high],
                "relative_loss": d.relative_loss.value,
                "relative_loss_interval": [d.relative_loss.low, d.relative_loss.high],
                "loss_sd": to_plain(d.loss_parts), "a": d.a.value, "a_interval": [d.a.low, d.a.high],
                "differ": d in comparison.differing,
            }
            for d in comparison.differences
        ],
        "differ": bool(comparison.differing),
        "verdict": describe_comparison(comparison)[-1],
    }  # fmt: skip


def _laws(artifact_root: Path, entries: Mapping[str, Entry]) -> dict[str, ScalingLaws]:
    return {name: load_result(artifact_root / e["result"]["sweep_dir"]).laws for name, e in entries.items()}


def _has_law(entry: Entry) -> bool:
    return isinstance(entry["result"].get("law"), dict) and "sweep_dir" in entry["result"]
