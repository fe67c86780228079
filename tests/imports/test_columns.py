"""Columns by the names that people use, by choice of the user, and refused where either is not clear."""

import pytest

from flops_fit.errors import InputError
from flops_fit.imports.columns import parse_columns
from flops_fit.imports.runs import read_runs
from flops_fit.result import load_runs


def codes(runs):
    return [(n.level, n.code) for n in runs.notes if n.code != "budgets_grouped"]


@pytest.mark.parametrize(
    "loss",
    ["loss", "val_loss", "eval/loss", "eval_loss", "Validation Loss", "test_loss", "final_loss", "Loss (nats)",
     "valLoss", "Loss/val", "final-eval-loss", "held_out_loss", "eval/lm_loss", "Loss [nats/token]", " LOSS "],
)  # fmt: skip
def test_names_of_a_loss(write, loss):
    assert list(read_runs(write(f"N,D,{loss}\n1e4,1e6,3\n")).loss) == [3.0]


@pytest.mark.parametrize(
    "names",
    ["model_size,train_tokens", "n_params,tokens_seen", "Parameters,n_tokens", "N (parameters),D (tokens)",
     "Model Size,Training Tokens", "num-params,train/num_input_tokens_seen", "total_params,Tokens [tokens]"],
)  # fmt: skip
def test_names_of_sizes_and_tokens(write, names):
    runs = read_runs(write(f"{names},loss\n1e4,1e6,3\n"))
    assert (runs.num_params[0], runs.num_tokens[0]) == (1e4, 1e6)


@pytest.mark.parametrize(
    "name",
    ["total_flops", "train_flops", "training_flops", "FLOPs", "Compute (FLOPs)", "C (FLOP)", "Training compute (FLOP)"],
)
def test_names_of_compute(write, name):
    assert list(read_runs(write(f"{name},N,loss\n6e10,1e4,3\n")).compute) == [6e10]


@pytest.mark.parametrize("header", ["N,D,loss", "params,tokens,Loss", "Num_Params,D (tokens),loss (nats)"])
def test_documented_names_need_no_note(write, header):
    assert codes(read_runs(write(f"{header}\n1e4,1e6,3\n"))) == []


def test_other_names_are_noted(write):
    runs = read_runs(write("n_params,D,test_loss,val_loss,train_loss\n1e4,1e6,3,3.1,2.9\n"))
    assert list(runs.loss) == [3.1]
    (note,) = runs.notes
    assert (note.level, note.code) == ("info", "columns_taken")
    assert note.message == (
        "columns taken: num_params from 'n_params', loss from 'val_loss'. Not used: 'train_loss', 'test_loss'."
    )


@pytest.mark.parametrize("chosen", [None, {"loss": "train/loss"}])
def test_a_training_loss_is_taken_with_a_warning_where_there_is_no_other(write, chosen):
    runs = read_runs(write("N,D,train/loss\n1e4,1e6,3\n"), columns=chosen)
    assert codes(runs) == [("info", "columns_taken"), ("warning", "training_loss")]


def test_columns_that_agree_are_one(write):
    assert list(read_runs(write("N,D,loss,val_loss,C,flops\n1e4,1e6,3.10,3.1,6e10,60000000000\n")).loss) == [3.1]


def test_a_size_in_words_gives_way_to_a_number(write):
    assert list(read_runs(write("model_size,n_params,D,loss\n70M,7e7,1e9,3\n")).num_params) == [7e7]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("N,D,loss,val_loss", "'loss' and 'val_loss' both mean loss and differ .line 2: 3 and 4.*--columns loss=loss"),
        ("N,D,eval/loss,val_loss", "--columns loss=eval/loss or loss=val_loss"),
        ("N,params,D,loss", "--columns N=N or N=params"),
        ("N,D,Params (M),Loss (bits)", "no column for loss.*'Loss \\(bits\\)'.*got 'bits', expected nats per token"),
        (
            "Params (M),Tokens (B),loss,x",
            "'Params \\(M\\)' was not taken as num_params: got 'M', expected plain counts",
        ),
        ("Step,Wall time,Value,x", "one row per finished run"),
        ("C,N_opt,D_opt,loss_opt", "table of optima"),
        ("n,d,loss,x", "two of C, N and D.*--columns"),
    ],
)
def test_unclear_columns_are_refused_with_what_to_do(write, header, words):
    with pytest.raises(InputError, match=words):
        read_runs(write(f"{header}\n1,2,3,4\n"))


@pytest.mark.parametrize(
    "chosen", [{"loss": "b", "N": "a"}, {"loss": "b", "num_params": "a"}, {"LOSS": "b", "params": "a"}]
)
def test_columns_can_be_chosen_by_letter_or_word(write, chosen):
    runs = load_runs(write("N,a,b,D,loss\n1,1e4,3,1e6,9\n"), columns=chosen)
    assert (runs.num_params[0], runs.loss[0]) == (1e4, 3.0)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"los": "loss"}, "unknown quantity 'los'. Did you mean 'loss'"),
        ({"loss": "vall_loss"}, "unknown column 'vall_loss'. Did you mean 'val_loss'"),
        ({"loss": "N", "N": "N"}, "'N' for num_params and for another quantity"),
        ({"N": "N", "params": "D"}, "'N' and 'D' for num_params"),
        ({"N": "size_m"}, "counts in 'm', expected plain counts of num_params"),
        ("loss=val_loss", "expected a mapping"),
    ],
)
def test_a_wrong_choice_is_refused(write, chosen, words):
    with pytest.raises(InputError, match=words):
        read_runs(write("N,D,val_loss,size_m\n1,2,3,4\n"), columns=chosen)


def test_a_sweep_folder_takes_no_columns(tmp_path):
    with pytest.raises(InputError, match="--columns is for a file"):
        load_runs(tmp_path, columns={"loss": "val_loss"})


def test_choices_are_read_from_the_command_line():
    assert parse_columns('loss=eval/loss, N = n params,"D=a,b"') == {"loss": "eval/loss", "N": "n params", "D": "a,b"}


@pytest.mark.parametrize(("text", "words"), [("loss", "KEY=COLUMN"), ("=x", "KEY=COLUMN"), ("N=a,N=b", "N twice")])
def test_choices_that_cannot_be_read_are_refused(text, words):
    with pytest.raises(InputError, match=words):
        parse_columns(text)
