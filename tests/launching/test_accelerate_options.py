"""Options of `accelerate launch`: each is taken up or contradicted in words."""

import logging
import subprocess
import sys

import pytest
from support import REPO

from flops_fit.announced import option_of
from flops_fit.errors import LaunchError
from flops_fit.launching.accelerate_options import IGNORED, REFUSED, launched_precision


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in (
        *REFUSED, *IGNORED, "ACCELERATE_MIXED_PRECISION", "ACCELERATE_DYNAMO_BACKEND",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("launched", "setting", "used"),
    [
        (None, "auto", "auto"),
        (None, "fp16", "fp16"),
        # The launcher exports "no" where nothing was asked for.
        ("no", "auto", "auto"),
        ("no", "bf16", "bf16"),
        ("bf16", "auto", "bf16"),
        ("fp16", "auto", "fp16"),
        ("bf16", "bf16", "bf16"),
    ],
)
def test_mixed_precision_is_taken_up_where_the_setting_is_automatic(monkeypatch, launched, setting, used):
    if launched is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    assert launched_precision(setting) == used


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, r"--mixed_precision bf16, and train\.precision=fp32\. Remove one"),
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, "--mixed_precision fp8, and the engine trains in fp32, bf16 or fp16"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "asks for DeepSpeed.*--use_fsdp --fsdp_version 2"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "asks for Megatron-LM.*--use_fsdp"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "tensor, context or sequence parallel.*--multi_gpu"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, r"--dynamo_backend inductor.*train\.compile=auto"),
    ],
)
def test_what_the_engine_does_not_do_is_refused_with_what_to_do(monkeypatch, variables, words):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LaunchError, match=words):
        launched_precision("fp32")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "--gradient_accumulation_steps 4 has no effect"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1", None),
        ("FSDP_OFFLOAD_PARAMS", "true", "--fsdp_offload_params has no effect"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "--fsdp_activation_checkpointing has no effect"),
        ("FSDP_OFFLOAD_PARAMS", "false", None),
        ("ACCELERATE_DYNAMO_BACKEND", "NO", None),
    ],
)
def test_what_changes_no_run_is_contradicted_in_words(monkeypatch, caplog, variable, value, words):
    monkeypatch.setenv(variable, value)
    with caplog.at_level(logging.WARNING):
        assert launched_precision("auto") == "auto"
    assert (words in caplog.text) if words else caplog.text == ""


@pytest.mark.parametrize(
    "words", [["--num_processes", "2", "--a_name", "3"], ["--a_name=3", "-m", "x"], ["--a-name", "3"]]
)
def test_an_option_is_read_in_each_way_it_can_be_written(words):
    assert option_of(words, "a_name") == "3"
    assert option_of(words, "other") is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads the launcher's command line from /proc")
def test_the_launcher_says_nothing_of_accumulation_and_it_is_contradicted_all_the_same(tmp_path):
    """`accelerate launch` exports the number with DeepSpeed only."""
    script = tmp_path / "script.py"
    script.write_text(
        "from flops_fit.launching.accelerate_options import launched_precision\n"
        "print('USED', launched_precision('auto'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--config_file",
         REPO / "launch" / "accelerate" / "single_gpu.yaml", "--mixed_precision", "bf16",
         "--gradient_accumulation_steps", "4", script],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "USED bf16" in done.stdout, done.stderr
    assert "--gradient_accumulation_steps 4 has no effect" in done.stderr
