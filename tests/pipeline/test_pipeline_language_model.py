import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from flops_fit.examples.gpt_stdlib.model import GPT
from safetensors.torch import load_file

import flops_fit.pipeline
from flops_fit.errors import InputError
from flops_fit.pipeline import load_model

TEXT = "Ana saw the house number 7 near the river. ¿Y el niño? " * 9


@pytest.fixture(scope="module")
def lm(finished):
    return load_model(finished)


def test_a_seed_gives_a_text_and_it_begins_with_the_prompt(lm):
    first, again, other = (lm.generate("Ana saw", 20, 0.8, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first.startswith("Ana saw")
    assert len(first) > len("Ana saw")
    assert lm.generate("Ana saw", 0) == "Ana saw"
    assert lm.generate("", 5, 0.0, 0) == lm.generate("", 5, 0.0, 9)


def test_generating_leaves_the_global_generators_alone(lm):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    lm.generate("Ana", 5)
    assert torch.equal(torch.rand(1), expected)


def test_the_loss_is_that_of_a_plain_forward_pass_over_the_same_windows(lm, finished, metrics):
    model = GPT(**{k: lm.config[k] for k in ("d_model", "n_layer", "n_head", "vocab_size", "seq_len")})
    model.load_state_dict(load_file(finished / "model/final_model.safetensors"), strict=False)
    model.eval()
    bos, eos = lm.tokenizer.token_to_id("<bos>"), lm.tokenizer.token_to_id("<eos>")
    ids = [bos, *lm.tokenizer.encode(TEXT).ids, eos]
    seq_len, nats = lm.config["seq_len"], []
    for start in range(0, len(ids) - 1, seq_len):
        window = torch.tensor(ids[start : start + seq_len + 1])
        with torch.no_grad():
            log_p = model(window[None, :-1])[0].log_softmax(-1)
        nats += (-log_p[torch.arange(len(window) - 1), window[1:]]).tolist()
    assert len(ids) > 2 * seq_len
    assert lm.loss(TEXT) == pytest.approx(np.mean(nats), rel=1e-4)
    assert lm.bits_per_byte(TEXT) == pytest.approx(sum(nats) / math.log(2) / len(TEXT.encode()), rel=1e-4)
    assert lm.num_params == metrics["training"]["num_params"]


def test_the_model_has_learned_from_its_text(lm):
    untrained = GPT(**{k: lm.config[k] for k in ("d_model", "n_layer", "n_head", "vocab_size", "seq_len")})
    fresh = flops_fit.pipeline.LanguageModel(untrained.eval(), lm.tokenizer, lm.config)
    assert lm.loss(TEXT) < fresh.loss(TEXT) - 0.01


def test_a_model_is_loaded_without_what_trains_it(finished):
    code = (
        "import sys; from flops_fit.pipeline import load_model\n"
        f"lm = load_model({str(finished)!r}); lm.generate('Ana', 3); lm.loss('Ana')\n"
        "print(sorted({'datasets', 'transformers', 'accelerate'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_folder_without_a_model_is_refused(tmp_path, lm):
    with pytest.raises(InputError, match=r"final_model\.safetensors.*--output-dir"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="empty text"):
        lm.loss("")
    with pytest.raises(ValueError, match="0 or more"):
        lm.generate("a", -1)
