import pytest

from flops_fit.errors import LaunchError
from flops_fit.launcher_options import check_launcher_options


def test_what_accelerate_launch_sets_by_default_is_no_wish():
    assert check_launcher_options({"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO"}) == []


@pytest.mark.parametrize(
    ("name", "value", "decision"),
    [
        ("ACCELERATE_MIXED_PRECISION", "fp16", "--mixed_precision fp16 is not followed: train.precision decides"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "train.compile decides"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "train.micro_batch_samples"),
    ],
)
def test_an_option_that_is_not_followed_is_contradicted(name, value, decision):
    (line,) = check_launcher_options({name: value})
    assert decision in line


@pytest.mark.parametrize("name", ["ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM"])
def test_another_engine_is_refused(name):
    with pytest.raises(LaunchError, match="FSDP2"):
        check_launcher_options({name: "true"})
