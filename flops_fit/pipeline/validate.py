"""Validate: the saved model measured in a fresh process, and every measurement judged by its limit."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from flops_fit.data import PackedTokens
from flops_fit.errors import ModelFailed
from flops_fit.files import replace_file
from flops_fit.pipeline.corpus import PATH as CORPUS
from flops_fit.pipeline.documents import Document, read_documents, texts_of
from flops_fit.pipeline.pack import encode
from flops_fit.pipeline.settings import STANDARD_LIMITS, Limits
from flops_fit.pipeline.stages import Context, Outcome
from flops_fit.pipeline.text_checks import (
    continuation_words,
    distinct_2,
    is_in_language,
    lexicons,
    longest_run,
    share_known,
)
from flops_fit.quantities import count_of

PATH = "samples.json"
UNNAMED = "text"
"""Stands for the language of text without one."""
PROMPTS = 10
PROMPT_WORDS = 3
SAMPLE_TOKENS = 60
TEMPERATURE = 0.8
MAX_WINDOWS = 1024
MAX_BYTES = 300_000
"""Held-out text of a language that is scored, at most."""
MAX_RUN = 4
"""Times that one token may come in a row."""
ABOVE = ("distinct_2", "lexicon", "language")
"""Limits that a value must reach; the others it must not exceed."""
REMEDIES = {
    "unigram_ratio": "more training: a higher pipeline.compute, or more text",
    "gap_nats": "fewer --epochs or more text",
    "p95_ms": "a lower pipeline.max_size or --max-seq-length",
    "rss_mb": "a CPU build of torch, or a lower pipeline.max_size",
    "peak_rss_mb": "a CPU build of torch, or a lower pipeline.max_size",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One measurement and its limit."""

    name: str
    value: float | None
    limit: float
    passed: bool | None
    """None: not judged."""
    note: str = ""


def run(context: Context) -> Outcome:
    """Writes ``samples.json``; the facts hold what was measured, and the checks."""
    documents = read_documents(context.root / CORPUS)
    languages = [lang for lang in context.facts("corpus")["languages"] if _has_both(documents, lang)]
    sides = {side: _by_language(documents, languages, side) for side in ("train", "val")}
    held_out = {lang: _first_bytes(texts) for lang, texts in sides["val"].items()}
    prompts = [{"lang": lang, "prompt": p} for lang, texts in held_out.items() for p in make_prompts(texts)]
    windows = {side: _windows(context, side) for side in ("val", "train")}
    count = min(map(len, windows.values()))
    request = {
        "prompts": prompts,
        "sample_tokens": SAMPLE_TOKENS,
        "temperature": TEMPERATURE,
        "seed": context.config.seed,
        "texts": held_out,
        "windows": {side: _spread(rows, count).tolist() for side, rows in windows.items()},
    }
    measured = measure_apart(context.root / "model", request)
    tokenizer = Tokenizer.from_file(str(context.root / "model/tokenizer.json"))
    facts = _summarize(context, measured, sides["train"], tokenizer, held_out)
    checks = judge(facts, context.config.pipeline.limits, too_small=bool(context.facts("sweep").get("left_out")))
    facts |= {"checks": [asdict(check) for check in checks]}
    facts["missed"] = describe_missed(checks)
    replace_file(context.root / PATH, (json.dumps(facts["samples"], indent=1, ensure_ascii=False) + "\n").encode())
    missed = sum(check.passed is False for check in checks)
    judged = sum(check.passed is not None for check in checks)
    word = f"{judged - missed} of {count_of(judged, 'check')} passed"
    ratio = f"{facts['val_bits_per_byte']:.3f} bits per byte (unigram {facts['unigram_bits_per_byte']:.3f})"
    return Outcome(outputs=(PATH,), facts=facts, summary=f"{PATH}, {word}, {ratio}")


def measure_apart(model_dir: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Runs `measure` in a fresh process on the CPU, which reads the model's folder and the request alone.

    Raises:
        ModelFailed: If that process fails.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "flops_fit.pipeline.measure", str(model_dir.resolve())],
        input=json.dumps(request), capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().rsplit("\n", 1)[-1]
        raise ModelFailed(
            f"the process that measures {model_dir} ended with {done.returncode}: {last}. Try --resume, or make the "
            "model again with another --output-dir."
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def judge(facts: dict[str, Any], limits: Limits, *, too_small: bool) -> tuple[Check, ...]:
    """Holds every measurement against its limit.

    Args:
        facts: What was measured.
        limits: A None is the standard limit.
        too_small: Whether the corpus was too small for a sweep: limits of quality that were not given by hand are then
            not judged, since no model can learn a language from so little.
    """
    checks = []
    for name, value in facts["measured"].items():
        given = getattr(limits, name)
        limit = STANDARD_LIMITS[name] if given is None else given
        if value is None:
            checks.append(Check(name=name, value=None, limit=limit, passed=None, note="the corpus names no languages"))
        elif given is None and too_small:
            note = f"not judged: the corpus is too small; set pipeline.limits.{name} to judge it"
            checks.append(Check(name=name, value=value, limit=limit, passed=None, note=note))
        else:
            passed = value >= limit if name in ABOVE else value <= limit
            checks.append(Check(name=name, value=value, limit=limit, passed=bool(passed)))
    run_length = facts["longest_run"]
    judged = not (too_small and limits.are_default)
    checks.append(
        Check(name="longest_run", value=run_length, limit=MAX_RUN, passed=run_length <= MAX_RUN if judged else None)
    )
    return tuple(checks)


def describe_missed(checks: Sequence[Check]) -> str | None:
    """Lists every check where one was missed; None where none was."""
    if all(check.passed is not False for check in checks):
        return None
    lines = []
    for check in checks:
        sign = ">=" if check.name in ABOVE else "<="
        word = {True: "passed", False: "MISSED", None: "not judged"}[check.passed]
        value = "-" if check.value is None else f"{check.value:.4g}"
        remedy = ""
        if check.passed is False:
            remedy = f"; try {REMEDIES.get(check.name, REMEDIES['unigram_ratio'])}"
            if check.name != "longest_run":
                remedy += f", or another limit: pipeline.limits.{check.name}=VALUE"
        lines.append(f"  {check.name}: {value}, limit {sign} {check.limit:g}: {word}{remedy}")
    missed = sum(check.passed is False for check in checks)
    return f"{count_of(missed, 'limit')} missed; the model stays in model/.\n" + "\n".join(lines)


def make_prompts(texts: Sequence[str]) -> list[str]:
    """Beginnings of held-out documents; of few documents, also of places within them."""
    openings = [words for text in texts if len(words := text.split()[:PROMPT_WORDS]) == PROMPT_WORDS]
    if len(openings) < PROMPTS:
        words = " ".join(texts).split()
        step = max(1, len(words) // (PROMPTS + 1))
        openings += [words[i * step : i * step + PROMPT_WORDS] for i in range(PROMPTS)]
    return [" ".join(words) for words in openings[:PROMPTS]]


def unigram_nats(train_counts: NDArray[np.float64], tokens: NDArray[np.integer]) -> float:
    """Loss of some tokens under the frequencies of the training tokens, each counted once more than it was seen."""
    log_p = np.log((train_counts + 1) / (train_counts + 1).sum())
    return float(-log_p[tokens].sum())


def _summarize(
    context: Context,
    measured: dict[str, Any],
    train_texts: dict[str, list[str]],
    tokenizer: Tokenizer,
    held_out: dict[str, list[str]],
) -> dict[str, Any]:
    counts = np.bincount(
        np.fromfile(context.root / "data/train.bin", dtype=_dtype(context)), minlength=tokenizer.get_vocab_size()
    ).astype(float)
    per_language: dict[str, dict[str, float]] = {}
    totals = np.zeros(3)
    for lang, texts in held_out.items():
        nats, size = measured["losses"][lang]["nats"], measured["losses"][lang]["bytes"]
        unigram = unigram_nats(counts, encode(tokenizer, texts)[1:])
        totals += (nats, unigram, size)
        per_language[lang] = {
            "val_bits_per_byte": _bits(nats, size),
            "unigram_bits_per_byte": _bits(unigram, size),
            "unigram_ratio": nats / unigram,
        }
    nats, unigram, size = totals
    known, samples = lexicons(train_texts), measured["samples"]
    everything = frozenset[str]().union(*known.values())
    written = [continuation_words(s["text"], s["prompt"]) for s in samples]
    named = len(known) > 1
    for sample, words in zip(samples, written, strict=True):
        sample["lexicon"] = share_known([words], everything)
        sample["is_in_language"] = is_in_language(words, sample["lang"], known) if named else None
    val_loss, train_loss = measured["window_losses"]["val"], measured["window_losses"]["train"]
    return {
        "val_loss": val_loss,
        "train_loss": train_loss,
        "val_bits_per_byte": _bits(nats, size),
        "unigram_bits_per_byte": _bits(unigram, size),
        "per_language": per_language,
        "samples": samples,
        "longest_run": max(longest_run(tokenizer.encode(s["text"]).ids) for s in samples),
        **{
            key: measured[key] for key in (
                "p95_ms_per_token", "rss_mb", "peak_rss_mb", "torch_import_rss_mb", "num_params", "timed_tokens",
            )
        },
        "windows": measured["windows"],
        "measured": {
            "unigram_ratio": max(found["unigram_ratio"] for found in per_language.values()),
            "gap_nats": val_loss - train_loss,
            "distinct_2": distinct_2(written),
            "lexicon": share_known(written, everything),
            "language": float(np.mean([s["is_in_language"] for s in samples])) if named else None,
            "p95_ms": measured["p95_ms_per_token"],
            "rss_mb": measured["rss_mb"],
            "peak_rss_mb": measured["peak_rss_mb"],
        },
    }  # fmt: skip


def _has_both(documents: Sequence[Document], lang: str) -> bool:
    return all(texts_of(documents, side, lang) for side in ("train", "val"))


def _by_language(documents: Sequence[Document], languages: Sequence[str], side: str) -> dict[str, list[str]]:
    """Texts of one side by language; those without a name that both sides know are one group."""
    found = {lang: texts_of(documents, side, lang) for lang in languages}
    rest = [d.text for d in documents if d.split == side and d.lang not in languages]
    return found | ({UNNAMED: rest} if rest else {})


def _first_bytes(texts: Sequence[str]) -> list[str]:
    taken: list[str] = []
    size = 0
    for text in texts:
        if taken and size + len(text.encode()) > MAX_BYTES:
            break
        taken.append(text)
        size += len(text.encode())
    return taken


def _windows(context: Context, side: str) -> NDArray[np.integer]:
    """Shape (n, T + 1): all sequences of a side, as training sees them."""
    seq_len = context.facts("pack")["seq_len"]
    source = PackedTokens(context.root / f"data/{side}.bin", seq_len)
    count = min(MAX_WINDOWS, source.num_samples)
    inputs, targets = source.batch(_positions(source.num_samples, count))
    return np.concatenate([inputs.numpy(), targets.numpy()[:, -1:]], axis=1)


def _spread(rows: NDArray[np.integer], count: int) -> NDArray[np.integer]:
    return rows[_positions(len(rows), count)]


def _positions(total: int, count: int) -> NDArray[np.int64]:
    return (np.arange(count) * (total / count)).astype(np.int64)


def _dtype(context: Context) -> str:
    return str(json.loads((context.root / "data/train.json").read_text())["dtype"])


def _bits(nats: float, num_bytes: float) -> float:
    return float(nats / math.log(2) / num_bytes)
