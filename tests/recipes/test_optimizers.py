"""Optimizers by name: what each one trains, and that a run with any of them resumes to the bit."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from support import ChainData, Interrupted, TinyLM, make_experiment, sequence_loss
from torch import nn

from flops_fit.data import as_source
from flops_fit.distributed import open_world
from flops_fit.errors import ConfigError
from flops_fit.planning.recipe import RecipeRule
from flops_fit.recipes.muon import hidden_matrices
from flops_fit.recipes.optimizers import OPTIMIZERS, make_optimizer
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_experiment

RECIPE = make_experiment().recipe
MUON = replace(RECIPE, optimizer="muon")


@pytest.fixture
def train(tmp_path):
    def run(folder, *, data=None, model=TinyLM, recipe=None, **settings):
        (tmp_path / folder).mkdir(exist_ok=True)
        task = make_task(
            model, "width", train_data=as_source(data or ChainData()), eval_data=as_source(ChainData(64, seed=1)),
            loss_fn=sequence_loss,
        )  # fmt: skip
        settings = TrainSettings(**{"precision": "fp32", "compile": "never", **settings})
        with open_world() as world:
            return train_experiment(
                task, make_experiment(**(recipe or {})), tmp_path / folder, world=world, settings=settings
            )

    return run


def names(model, parameters):
    chosen = {id(p) for p in parameters}
    return {name for name, p in model.named_parameters() if id(p) in chosen}


def with_head(*, tied):
    model = nn.ModuleDict(
        {
            "head": nn.Linear(4, 9, bias=False),
            "embed": nn.Embedding(9, 4),
            "conv": nn.Conv1d(4, 4, 3),
            "norm": nn.LayerNorm(4),
            "up": nn.Linear(4, 8),
            "down": nn.Linear(8, 4),
        }
    )
    if tied:
        model["head"].weight = model["embed"].weight
    return model


def test_hidden_matrices_are_linear_weights_but_embeddings_and_the_output():
    model = TinyLM(8)
    assert names(model, hidden_matrices(model)) == {"mix.weight"}
    model = with_head(tied=True)
    assert names(model, hidden_matrices(model)) == {"up.weight", "down.weight"}
    # The limit of the rule: an output layer that is neither tied nor registered last is taken for a hidden one.
    model = with_head(tied=False)
    assert names(model, hidden_matrices(model)) == {"head.weight", "up.weight"}
    model = TinyLM(8)
    model.mix.weight.requires_grad_(False)
    assert hidden_matrices(model) == []


def test_each_trained_parameter_has_one_group_and_biases_no_decay():
    model = TinyLM(8)
    model.embed.weight.requires_grad_(False)
    optimizer = make_optimizer(model, MUON)
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped})
    assert names(model, grouped) == {"mix.weight", "mix.bias", "head.weight", "head.bias"}
    decayed = [p for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]]
    assert names(model, decayed) == {"mix.weight", "head.weight"}


def test_a_step_of_muon_is_orthogonal_with_the_rms_of_adamw():
    """Its singular values are 0.2 sqrt(max(rows, columns)) times the rate (Moonlight, equation 4)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32, bias=False), nn.Linear(32, 2))
    before = model[0].weight.detach().clone()
    optimizer = make_optimizer(model, replace(MUON, weight_decay=0.0))
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    model(torch.randn(256, 64)).square().mean().backward()
    model[0].weight.grad = torch.randn(32, 64)
    optimizer.step()
    values = torch.linalg.svdvals(model[0].weight.detach() - before) / (0.5 * 0.2 * 64**0.5)
    # Five Newton-Schulz iterations leave singular values between about 0.7 and 1.2 (Jordan et al. 2024).
    assert 0.6 < values.min() < values.max() < 1.3


def test_the_rest_is_trained_as_by_adamw():
    def after(recipe):
        torch.manual_seed(0)
        model = TinyLM(8)
        optimizer = make_optimizer(model, recipe)
        inputs, targets = torch.utils.data.default_collate([ChainData()[i] for i in range(4)])
        sequence_loss(model(inputs), targets).backward()
        optimizer.step()
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    adamw, muon = after(RECIPE), after(MUON)
    assert {name for name in adamw if not torch.equal(adamw[name], muon[name])} == {"mix.weight"}


def test_a_saved_state_loads_into_the_parts_that_make_the_steps():
    model = TinyLM(8)
    optimizer, again = make_optimizer(model, MUON), make_optimizer(model, MUON)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    again.load_state_dict(optimizer.state_dict())
    again.step()
    steps = {int(state["step"]) for state in again.state.values() if "step" in state}
    assert steps == {2}
    # 1 - 0.95^2 of a gradient of ones.
    assert again.state[model.mix.weight]["momentum_buffer"].unique().item() == pytest.approx(1 - 0.95**2)


def test_muon_learns_and_is_not_adamw(train):
    recipe = {"num_tokens": 16 * 800, "learning_rate": 0.03}
    muon, adamw = (train(name, recipe={**recipe, "optimizer": name}) for name in ("muon", "adamw"))
    # At first each of the 16 symbols is as likely: ln 16 = 2.77.
    assert muon.loss < 2.0
    assert muon.loss != adamw.loss


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_run_with_muon_resumes_to_the_bit(train, tmp_path, monkeypatch, precision):
    # The peak rate of a CPU in fp16 takes seconds to measure.
    monkeypatch.setattr("flops_fit.training.metrics.peak_flops_per_second", lambda device, precision: 1e12)
    recipe = {"optimizer": "muon", "num_tokens": 16 * 40}
    options = {"recipe": recipe, "checkpoint_seconds": 0.0, "precision": precision}
    whole = train("whole", **options)
    assert whole.status == "completed", whole.reason
    with pytest.raises(KeyboardInterrupt):
        train("stopped", data=Interrupted(30), **options)
    assert any((tmp_path / "stopped" / "checkpoints").iterdir())
    resumed = train("stopped", **options)
    assert (resumed.loss, resumed.train_loss) == (whole.loss, whole.train_loss)


def test_a_model_without_hidden_matrices_is_refused_in_one_line(train):
    class Shallow(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.embed, self.head = nn.Embedding(16, width), nn.Linear(width, 16)

        def forward(self, tokens_BT):
            return self.head(self.embed(tokens_BT))

    with pytest.raises(ConfigError, match=r"optimizer=muon: Shallow has no hidden.*Use sweep\.recipe\.optimizer=adamw"):
        train("run", model=Shallow, recipe={"optimizer": "muon"})


def test_an_unknown_optimizer_names_the_nearest():
    with pytest.raises(ConfigError, match=r"sweep\.recipe\.optimizer: unknown optimizer 'mon'\. Did you mean 'muon'\?"):
        RecipeRule(optimizer="mon")
    with pytest.raises(ConfigError, match="Did you mean 'adamw'"):
        make_optimizer(TinyLM(8), replace(RECIPE, optimizer="adam"))


def test_a_new_optimizer_is_one_line(train, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "sgd", lambda model, recipe: torch.optim.SGD(model.parameters(), momentum=0.9))
    options = {"recipe": {"optimizer": RecipeRule(optimizer="sgd").optimizer}, "checkpoint_seconds": 0.0}
    whole = train("whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train("stopped", data=Interrupted(100), **options)
    assert train("stopped", **options).loss == whole.loss < 2.77


def test_planning_knows_the_optimizers_without_torch():
    code = "import sys, flops_fit.planning.isoflop; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
