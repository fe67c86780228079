"""Train: the chosen model on the chosen tokens, by the engine; ``model/`` then holds all that is needed to use it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn

from flops_fit.api import train_one
from flops_fit.console import is_main_process
from flops_fit.files import replace_file, replace_large_file
from flops_fit.pipeline.architecture import SHAPE, SIZE_PARAM, TIED
from flops_fit.pipeline.language_model import draw_tokens
from flops_fit.pipeline.stages import Context, Outcome
from flops_fit.pipeline.sweep import training_failure
from flops_fit.pipeline.task import engine_settings, recipe_rule, task_maker
from flops_fit.pipeline.tokenizer import PATH as TOKENIZER
from flops_fit.quantities import format_count
from flops_fit.records import RunResult
from flops_fit.tasks import Task

FOLDER = "checkpoints"
OUTPUTS = (
    "model/config.json",
    "model/tokenizer.json",
    "model/final_model.safetensors",
    "model/best_model.safetensors",
)
SAMPLE_TOKENS = 40
PROMPTS = {"en": "The", "es": "El"}
LOG_LINES = 200
"""Lines of metrics over a run, about: a tenth's training loss is a mean over twenty of them."""


def run(context: Context) -> Outcome:
    """Trains in ``checkpoints/`` and writes ``model/``."""
    chosen, config = context.facts("fit"), context.config
    task = task_maker(context)()
    rule = recipe_rule(config, task.tokens_per_sample)
    steps = -(-chosen["num_tokens"] // rule.batch_tokens)
    settings = replace(engine_settings(config), keep_weights="both", log_every=max(1, steps // LOG_LINES))
    log = History(context, steps, settings.log_every)
    result = train_one(
        task, chosen["size"], chosen["num_tokens"], out=context.root / FOLDER, recipe=rule, train_config=settings,
        seed=config.seed, on_evaluation=log.note,
    )  # fmt: skip
    if result.status != "completed":
        rate = f"{result.experiment.recipe.learning_rate:g}"
        raise training_failure(result, f"the training {result.status}", rate)
    if not is_main_process():
        return Outcome()
    _write_model(context, task, result)
    log.note_end(result)
    facts = _facts(result, log.entries(context.root / FOLDER / "runs" / result.experiment.experiment_id, result))
    assert result.loss is not None
    summary = f"model/, N={format_count(facts['num_params'])}, D={format_count(facts['num_tokens'])}"
    return Outcome(outputs=OUTPUTS, facts=facts, summary=f"{summary}, held-out loss {result.loss:.4f}")


class History:
    """Held-out loss and a sample after every tenth of a run, kept on disk: a resumed run does not repeat them."""

    def __init__(self, context: Context, steps: int, log_every: int) -> None:
        self._path = context.root / FOLDER / "history.jsonl"
        self._steps, self._log_every, self._notify = steps, log_every, context.notify
        self._tokenizer = Tokenizer.from_file(str(context.root / TOKENIZER))
        languages = list(context.facts("corpus")["languages"])
        self._prompt = PROMPTS.get(languages[0], "") if languages else ""

    def note(self, step: int, loss: float, model: nn.Module) -> None:
        """Called by the engine; draws from a generator of its own."""
        was_training = model.training
        model.eval()
        drawn = draw_tokens(model, self._tokenizer, self._prompt, 0.8, seed=0)
        text = self._prompt + self._tokenizer.decode([t for _, t in zip(range(SAMPLE_TOKENS), drawn, strict=False)])
        model.train(was_training)
        rows = [row for row in self._rows() if row["step"] < step]
        self._write([*rows, {"step": step, "val_loss": loss, "sample": text}])
        self._notify(f"step {step:,} of {self._steps:,}, held-out loss {loss:.4f}: {text!r}")

    def note_end(self, result: RunResult) -> None:
        """Adds the end of the run, which the engine evaluates itself."""
        rows = [row for row in self._rows() if row["step"] < result.steps]
        self._write([*rows, {"step": result.steps, "val_loss": result.loss, "sample": None}])

    def entries(self, run_dir: Path, result: RunResult) -> list[dict[str, Any]]:
        """The history as the metrics hold it, with the mean training loss since the entry before."""
        logged = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        # Checkpoints add lines of their own, at steps that depend on the time they took.
        lines = [line for line in logged if line["step"] % self._log_every == 0 or line["step"] == result.steps]
        entries, before = [], 0
        for row in self._rows():
            losses = [line["loss"] for line in lines if before < line["step"] <= row["step"]]
            tokens = result.experiment.tokens_after(row["step"])
            epoch = None if result.epochs is None else result.epochs * tokens / result.tokens_seen
            mean = float(np.mean(losses)) if losses else None
            entries.append({**row, "tokens": tokens, "epoch": epoch, "train_loss": mean})
            before = row["step"]
        return entries

    def _rows(self) -> list[dict[str, Any]]:
        if not self._path.is_file():
            return []
        return [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]

    def _write(self, rows: list[dict[str, Any]]) -> None:
        replace_file(self._path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _write_model(context: Context, task: Task, result: RunResult) -> None:
    """Writes ``model/``: the same bits for the same weights."""
    e, root = result.experiment, context.root
    config = {
        "architecture": task.model_cls_name,
        SIZE_PARAM: e.size_param_value,
        **SHAPE,
        "vocab_size": task.model_kwargs["vocab_size"],
        "seq_len": e.tokens_per_sample,
        "num_params": e.num_params,
        "num_tokens": e.num_tokens,
        "corpus": context.facts("corpus")["name"],
    }
    replace_file(root / OUTPUTS[0], (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode())
    replace_file(root / OUTPUTS[1], (root / TOKENIZER).read_bytes())
    for kind in ("final", "best"):
        tensors = load_file(root / FOLDER / result.weights[kind])
        tensors.pop(TIED)
        # One entry of metadata: safetensors writes several in an order that changes from run to run.
        write = partial(save_file, tensors, metadata={"format": "pt"})
        replace_large_file(root / f"model/{kind}_model.safetensors", write)


def _facts(result: RunResult, history: list[dict[str, Any]]) -> Mapping[str, Any]:
    e = result.experiment
    return {
        "num_params": e.num_params,
        "num_tokens": result.tokens_seen,
        "epochs": result.epochs,
        "flops": result.flops_spent,
        "steps": result.steps,
        "size": e.size_param_value,
        "seq_len": e.tokens_per_sample,
        "batch_size": e.recipe.batch_tokens // e.tokens_per_sample,
        "learning_rate": e.recipe.learning_rate,
        "optimizer": e.recipe.optimizer,
        "schedule": e.recipe.schedule,
        "warmup_tokens": e.recipe.warmup_tokens,
        "max_grad_norm": e.recipe.max_grad_norm,
        "weight_decay": e.recipe.weight_decay,
        "loss": result.loss,
        "loss_std_error": result.loss_std_error,
        "train_loss": result.train_loss,
        "wall_seconds": result.wall_seconds,
        "history": history,
    }
