"""Measurement of a saved model in a process of its own: ``python -m flops_fit.pipeline.measure MODEL < request``.

It reads ``MODEL`` and the request on stdin, imports torch, safetensors and tokenizers, and writes JSON to stdout. What
it measures is judged elsewhere (`validate`).
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from flops_fit.memory import peak_resident_bytes, resident_bytes

if TYPE_CHECKING:
    from flops_fit.pipeline.language_model import LanguageModel

WARMUP_TOKENS = 5
TIMED_TOKENS = 120


def measure(model_dir: str, read_request: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Returns latency, memory, samples and losses.

    Args:
        model_dir: A folder ``model``.
        read_request: Returns ``prompts`` ([{lang, prompt}]), ``sample_tokens``, ``temperature``, ``seed``; ``texts``:
            lists of documents by name, and ``windows``: lists of sequences by name, of which each gets its loss.
    """
    import torch  # Measured before anything else is imported.

    torch_rss = resident_bytes()
    torch.set_num_threads(1)
    request = read_request()
    from flops_fit.pipeline.language_model import load_model, score_windows

    lm = load_model(model_dir)
    millis = latencies(lm, request["prompts"][0]["prompt"])
    samples = [
        {**p, "text": lm.generate(p["prompt"], request["sample_tokens"], request["temperature"], request["seed"] + i)}
        for i, p in enumerate(request["prompts"])
    ]
    resident, peak = resident_bytes(), peak_resident_bytes()
    losses = {}
    for name, texts in request["texts"].items():
        nats, tokens = lm.score(texts)
        losses[name] = {"nats": nats, "tokens": tokens, "bytes": sum(len(text.encode()) for text in texts)}
    windows = {name: score_windows(lm.model, torch.tensor(rows)) for name, rows in request["windows"].items()}
    return {
        "window_losses": windows,
        "windows": {name: len(rows) for name, rows in request["windows"].items()},
        "num_params": lm.num_params,
        "p95_ms_per_token": millis[int(0.95 * len(millis))],
        "timed_tokens": len(millis),
        "rss_mb": resident / 1e6,
        "peak_rss_mb": peak / 1e6,
        "torch_import_rss_mb": torch_rss / 1e6,
        "samples": samples,
        "losses": losses,
        "modules": sorted({"accelerate", "datasets", "transformers"} & set(sys.modules)),
    }


def latencies(lm: "LanguageModel", prompt: str) -> list[float]:
    """Milliseconds of each token after the first few, in ascending order."""
    drawn, millis = lm.tokens(prompt), []
    for _ in islice(drawn, WARMUP_TOKENS):
        pass
    for _ in range(TIMED_TOKENS):
        started = time.perf_counter()
        next(drawn)
        millis.append(1000 * (time.perf_counter() - started))
    return sorted(millis)


if __name__ == "__main__":
    json.dump(measure(sys.argv[1], lambda: json.load(sys.stdin)), sys.stdout)
