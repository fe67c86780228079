"""The Hugging Face example and its page: what they show runs, offline, and bad input ends in one line."""

import re
import runpy
import sys

import pytest
import torch
from support import REPO

import flops_fit

pytest.importorskip("datasets")
pytest.importorskip("tokenizers")

FOLDER = REPO / "examples" / "hf_llama"
EXAMPLE = FOLDER / "example.py"
(PAGE,) = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), flags=re.DOTALL)


def code_lines(text):
    return [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


@pytest.fixture
def text_dir(tmp_path):
    """Some words in a random order; enough that no run of the smallest budgets sees them more than four times."""
    words = ["the", "a", "model", "token", "loss", "layer", "width", "sweep", "grows", "falls", "deep", "large"]
    order = torch.randint(len(words), (24, 2500), generator=torch.Generator().manual_seed(0))
    folder = tmp_path / "my-text"
    folder.mkdir()
    for i, row in enumerate(order.tolist()):
        (folder / f"{i:02d}.txt").write_text(" ".join(words[j] for j in row) + ".\n")
    return folder


@pytest.fixture
def in_folder(tmp_path, text_dir, monkeypatch):
    """A working directory with the text and the tokenizer that the page names, and nothing of the hub."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    bpe = ByteLevelBPETokenizer()
    bpe.train([str(path) for path in text_dir.iterdir()], vocab_size=270, special_tokens=["<end>"], show_progress=False)
    PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<end>").save_pretrained("my-tokenizer")
    return tmp_path


def run_example(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, arguments)])
    return runpy.run_path(str(EXAMPLE), run_name="__main__")


def planned(monkeypatch):
    """Calls of `find_optimal` with their plans; nothing is trained."""
    real = flops_fit.find_optimal
    calls = []

    def plan(*args, **kwargs):
        few_sizes = {**kwargs.pop("sweep"), "max_size": 16}
        calls.append((args, real(*args, **kwargs, sweep=few_sizes, train=False)))
        return calls[-1][1]

    monkeypatch.setattr(flops_fit, "find_optimal", plan)
    return calls


def test_the_example_is_forty_lines_and_subclasses_nothing():
    assert len(code_lines(EXAMPLE.read_text())) <= 40
    assert "class " not in "".join(code_lines(EXAMPLE.read_text())[1:])
    # Fifteen statements; ruff would break the last two calls into more lines.
    assert len(code_lines(PAGE)) <= 16


def test_the_example_plans_a_sweep_of_a_folder_of_text(in_folder, monkeypatch):
    calls = planned(monkeypatch)
    run_example(monkeypatch, "--text-dir", "my-text", "--output-dir", "out")
    ((make, size_param, _, data, *_), plan) = calls[0]
    sample = data[0]
    assert sample["input_ids"].dtype == torch.int64
    # A causal model of transformers shifts the labels itself.
    assert torch.equal(sample["input_ids"], sample["labels"])
    assert (make(hidden_size=8).config.model_type, size_param) == ("llama", "hidden_size")
    # Each budget holds several sizes, and no run repeats its data often.
    assert all(len({e.num_params for e in plan.experiments if e.compute_budget == c}) > 2 for c in plan.compute_budgets)
    assert max(e.num_tokens for e in plan.experiments) <= 4 * data.num_rows * len(sample["input_ids"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "no UTF-8 text in bad. Convert it or name another folder"),
        ({"a.txt": b"fine", "b.txt": b"ab\xff"}, r"no UTF-8 text in bad.b\.txt. Convert it or name another folder"),
        ({"a.txt": b"too short"}, "got 0 samples"),
    ],
)
def test_text_that_cannot_be_used_ends_in_one_line_and_leaves_nothing(in_folder, monkeypatch, capsys, content, words):
    (in_folder / "bad").mkdir()
    for name, data in content.items():
        (in_folder / "bad" / name).write_bytes(data)
    with pytest.raises(SystemExit) as ended:
        run_example(monkeypatch, "--text-dir", "bad", "--output-dir", "out")
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert re.search(words, line)
    assert not (in_folder / "out").exists()


def test_an_unknown_flag_ends_with_usage(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run_example(monkeypatch, "--text-dir", "x", "--bogus")
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_code_of_the_page_plans_a_sweep(in_folder, monkeypatch):
    calls = planned(monkeypatch)
    exec(compile(PAGE, "README.md", "exec"), {"__name__": "page"})
    ((_, plan),) = calls
    assert (plan.model_cls_name, plan.size_param, len(plan.compute_budgets)) == ("make", "hidden_size", 6)


@pytest.mark.slow
def test_the_code_of_the_page_trains_a_sweep(in_folder, capsys):
    exec(compile(PAGE, "README.md", "exec"), {"__name__": "page"})
    assert "N_opt" in capsys.readouterr().out
    assert len(list((in_folder / "outputs" / "results").iterdir())) == 24


@pytest.mark.slow
def test_the_example_trains_its_sweep(in_folder, monkeypatch, capsys):
    run_example(monkeypatch, "--text-dir", "my-text", "--output-dir", "out")
    out = capsys.readouterr().out
    assert "N_opt" in out
    assert (in_folder / "out" / "report" / "index.html").is_file()
