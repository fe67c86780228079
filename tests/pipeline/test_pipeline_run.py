"""The whole pipeline on fifty lines in each language: what it makes, and what it does when it is called again."""

import json
import math
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file
from small_pipeline import command

from flops_fit.pipeline.run import needed_for
from flops_fit.pipeline.stages import STAGES

NAMES = ["check", "corpus", "tokenizer", "pack", "sweep", "fit", "train", "validate", "report"]
NUMBER, TEXT, BOOL, NONE = (int, float), str, bool, type(None)
PROBABLY = (*NUMBER, NONE)
SCHEMA = {
    "schema_version": int, "run_id": TEXT,
    "config": {
        "pipeline": {
            "epochs": NUMBER, "batch_size": int, "learning_rate": NUMBER, "vocab_size": int, "max_seq_length": int,
            "compute": NUMBER, "limits": {"unigram_ratio": PROBABLY, "p95_ms": NUMBER},
        },
        "corpus": {"source": TEXT, "paths": [TEXT]}, "sweep": {"compute_budgets": [NUMBER]}, "seed": int,
    },
    "environment": {"python": TEXT, "packages": {"torch": TEXT}, "cpus": int},
    "stages": [{"name": TEXT, "seconds": NUMBER, "input_hash": TEXT, "outputs": dict, "skipped": BOOL}],
    "corpus": {"documents": int, "bytes": int, "languages": dict, "is_generated": BOOL, "train_tokens": int},
    "tokenizer": {"vocab_size_requested": int, "vocab_size": int, "bytes_per_token": NUMBER},
    "fit": {
        "recommended": (TEXT, NONE), "trusted": BOOL, "reason": TEXT, "num_params": int,
        "num_params_interval": (list, NONE), "num_tokens": int,
    },
    "training": {
        "num_params": int, "num_tokens": int, "epochs": NUMBER, "flops": NUMBER,
        "history": [{"step": int, "tokens": int, "epoch": NUMBER, "train_loss": PROBABLY, "val_loss": NUMBER}],
    },
    "prediction": (dict, NONE),
    "outcome": {"loss": NUMBER, "inside_interval": (BOOL, NONE)},
    "validation": {
        "val_loss": NUMBER, "train_loss": NUMBER, "val_bits_per_byte": NUMBER, "unigram_bits_per_byte": NUMBER,
        "per_language": dict, "samples": [{"lang": TEXT, "prompt": TEXT, "text": TEXT}], "p95_ms_per_token": NUMBER,
        "rss_mb": NUMBER, "peak_rss_mb": NUMBER, "torch_import_rss_mb": NUMBER,
        "checks": [{"name": TEXT, "value": PROBABLY, "limit": NUMBER, "passed": (BOOL, NONE)}],
    },
}  # fmt: skip


def check_schema(value, schema, path="metrics"):
    if isinstance(schema, dict):
        assert isinstance(value, dict), path
        for key, inner in schema.items():
            assert key in value, f"{path}.{key}"
            check_schema(value[key], inner, f"{path}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), path
        for i, item in enumerate(value):
            check_schema(item, schema[0], f"{path}[{i}]")
    else:
        assert isinstance(value, schema), f"{path}: {value!r}"


def test_the_stages_are_those_of_the_guide_with_their_exit_codes():
    assert [stage.name for stage in STAGES] == NAMES
    assert [stage.exit_code for stage in STAGES] == [1, 2, 3, 3, 4, 4, 4, 5, 5]


def test_a_stage_makes_what_it_needs_and_no_more():
    assert [stage.name for stage in needed_for("tokenizer")] == ["check", "corpus", "tokenizer"]
    assert [stage.name for stage in needed_for("report")] == NAMES


def test_the_metrics_are_strict_json_of_the_schema(finished):
    def refuse(text):
        raise AssertionError(text)

    text = (finished / "training_metrics.json").read_text(encoding="utf-8")
    metrics = json.loads(text, parse_constant=refuse)
    check_schema(metrics, SCHEMA)
    assert [stage["name"] for stage in metrics["stages"]] == NAMES
    for path in (p for stage in metrics["stages"] for p in stage["outputs"]):
        assert (finished / path).stat().st_size > 0


def test_the_reference_metrics_of_the_example_have_the_schema():
    from support import REPO

    check_schema(json.loads((REPO / "examples/pipeline/training_metrics.json").read_text(encoding="utf-8")), SCHEMA)


def test_two_epochs_of_fifty_lines_go_through_without_a_sweep(metrics, finished):
    assert metrics["config"]["pipeline"]["epochs"] == 2
    assert metrics["training"]["num_tokens"] == 2 * metrics["corpus"]["train_tokens"]
    assert metrics["training"]["epochs"] == pytest.approx(2)
    assert not metrics["fit"]["trusted"]
    assert "too small" in metrics["fit"]["reason"]
    assert {s["name"] for s in metrics["stages"] if s["skipped"]} == {"sweep", "fit"}
    first = (finished / "report/index.html").read_text(encoding="utf-8").split("<p", 2)[1]
    assert "not trusted" in first
    assert "too small" in first


def test_the_history_has_an_entry_for_each_tenth_with_losses_and_a_sample(metrics):
    history = metrics["training"]["history"]
    steps = [entry["step"] for entry in history]
    last = metrics["training"]["steps"]
    assert steps == sorted({math.ceil(last * i / 10) for i in range(1, 11)})
    assert history[-1]["tokens"] == metrics["training"]["num_tokens"]
    assert history[-1]["val_loss"] == metrics["outcome"]["loss"]
    assert all(entry["sample"] for entry in history[:-1])
    assert history[-1]["val_loss"] < history[0]["val_loss"]


def test_the_saved_weights_hold_as_many_numbers_as_the_metrics_say(finished, metrics):
    for kind in ("final", "best"):
        tensors = load_file(finished / f"model/{kind}_model.safetensors")
        assert sum(t.size for t in tensors.values()) == metrics["training"]["num_params"]


def test_the_recipe_is_adamw_clipped_at_one_with_the_batch_asked_for(metrics):
    training = metrics["training"]
    assert (training["optimizer"], training["max_grad_norm"], training["schedule"]) == ("adamw", 1.0, "wsd")
    assert training["batch_size"] == metrics["config"]["pipeline"]["batch_size"]


def test_windows_of_both_sides_hold_the_documents_of_their_side_alone(finished):
    from flops_fit.pipeline.documents import read_documents, texts_of
    from flops_fit.pipeline.pack import encode
    from flops_fit.pipeline.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(finished / "tokenizer/tokenizer.json")
    documents = read_documents(finished / "corpus/documents.jsonl")
    for side in ("train", "val"):
        packed = np.fromfile(finished / f"data/{side}.bin", dtype=np.uint16)
        stream = encode(tokenizer, texts_of(documents, side))
        assert packed.tolist() == stream[: len(packed)].tolist()
        assert len(stream) - len(packed) < 64


def test_a_finished_folder_is_not_written_to_without_resume(finished, call, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    code, out, err = call(*command(finished.parent / "text", finished))
    assert (code, out) == (1, "")
    assert "--resume" in err
    assert "--output-dir NEW" in err
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_resuming_a_finished_run_changes_nothing_and_trains_nothing(finished, call):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    code, _, err = call(*command(finished.parent / "text", finished, "--resume"))
    assert code == 0
    assert [line for line in err.splitlines() if line.endswith("unchanged")] == [
        f"[{i}/9] {name} unchanged" for i, name in enumerate(NAMES, 1) if name != "check"
    ]
    changed = {p.name for p, t in before.items() if p.stat().st_mtime_ns != t}
    assert changed <= {"pipeline_state.json"}


def test_a_changed_limit_is_judged_anew_and_nothing_is_trained(finished, call, tmp_path):
    copy = tmp_path / "out"
    shutil.copytree(finished, copy)
    arguments = command(finished.parent / "text", copy, "pipeline.limits.unigram_ratio=0.01")
    code, _, err = call(*arguments)
    assert code == 1
    assert "another configuration" in err
    assert "--resume" in err
    code, out, err = call(*arguments, "--resume", "--json")
    assert code == 5
    assert json.loads(out)["error"]["exit_code"] == 5
    assert "unigram_ratio" in err
    assert "limit <= 0.01: MISSED" in err
    assert "p95_ms" in err
    assert "[7/9] train unchanged" in err
    assert (copy / "model/final_model.safetensors").is_file()
    judged = json.loads((copy / "training_metrics.json").read_text())["validation"]["checks"]
    assert [check["passed"] for check in judged if check["name"] == "unigram_ratio"] == [False]
    assert "unigram_ratio" in (copy / "report/index.html").read_text().split("</p>")[0]


def test_a_damaged_output_is_made_again_to_the_same_bits(finished, call, tmp_path):
    copy = tmp_path / "out"
    shutil.copytree(finished, copy)
    tokenizer = (copy / "tokenizer/tokenizer.json").read_bytes()
    (copy / "tokenizer/tokenizer.json").write_bytes(tokenizer[:100])
    code, _, err = call(*command(finished.parent / "text", copy, "--resume", verb="pack"))
    assert code == 0, err
    assert "[2/9] corpus unchanged" in err
    assert "[3/9] tokenizer done" in err
    assert "[4/9] pack unchanged" in err  # What it reads is the same again.
    assert (copy / "tokenizer/tokenizer.json").read_bytes() == tokenizer
