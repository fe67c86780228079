"""What only a GPU can show: run these where there is one, `pytest -m gpu`."""

import pytest
import torch
from odd_models import odd_experiment, odd_task
from support import ChainData, TinyLM, make_experiment, sequence_loss

import flops_fit
from flops_fit.training import TrainSettings, loop, train_experiment
from flops_fit.training.engine.probe import EngineChoice
from flops_fit.training.feeding import step_batches
from flops_fit.training.step import accumulate_alone

# Of torch's own imports when it compiles.
COMPILES = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@pytest.fixture
def train(tiny_task, world, tmp_path):
    def run(folder, **settings):
        (tmp_path / folder).mkdir()
        return train_experiment(
            tiny_task, make_experiment(), tmp_path / folder, world=world, settings=TrainSettings(**settings)
        )

    return run


def test_a_run_on_a_gpu_has_the_loss_it_has_on_a_cpu(train):
    # What these 19 steps give on a CPU, torch 2.13; other kernels add in another order.
    assert train("fp32", precision="fp32", compile="never").loss == pytest.approx(2.1267152, rel=1e-3)


def gradients(task, *, compile, micro_batch, world):
    """Of the first step, as `accumulate_alone` leaves them."""
    experiment, choice = make_experiment(), EngineChoice(micro_batch=micro_batch, compiled=compile)
    run = loop._start(task, experiment, world, choice)
    batches = step_batches(task, experiment, 0, rank=0, size=1, micro_batch=micro_batch)
    found = []
    for _ in range(4):  # A graph is recorded in the second pass and replayed from the third.
        accumulate_alone(task, run, batches, world, choice)
        found.append([p.grad.clone() for p in run.parameters])
        run.optimizer.zero_grad(set_to_none=True)
        run.step += 1
    return found


@COMPILES
@pytest.mark.parametrize("micro_batch", [None, 4, 3])
def test_compiled_gradients_of_several_micro_batches_are_those_of_the_plain_model(tiny_task, world, micro_batch):
    """With CUDA graphs the first micro-batches of a step could be lost silently (PyTorch issues 169545, 96693)."""
    plain = gradients(tiny_task, compile=False, micro_batch=None, world=world)
    compiled = gradients(tiny_task, compile=True, micro_batch=micro_batch, world=world)
    for one, other in zip(plain, compiled, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5)


@COMPILES
@pytest.mark.parametrize("micro_batch", [4, 3])
def test_a_compiled_run_in_micro_batches_has_the_loss_of_the_plain_one(train, micro_batch):
    compiled = train("compiled", precision="fp32", compile="always", micro_batch_samples=micro_batch)
    assert compiled.loss == pytest.approx(train("eager", precision="fp32", compile="never").loss, rel=1e-4)


def test_a_data_set_that_augments_at_random_is_read_alike_in_pieces(world, tmp_path):
    losses = []
    for micro_batch in (None, 3):
        (tmp_path / str(micro_batch)).mkdir()
        settings = TrainSettings(precision="fp32", compile="never", micro_batch_samples=micro_batch)
        name = "augmented at random"
        folder = tmp_path / str(micro_batch)
        losses.append(
            train_experiment(odd_task(name), odd_experiment(name), folder, world=world, settings=settings).loss
        )
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@COMPILES
def test_graphs_give_the_loss_of_single_kernels(train):
    graphs = train("graphs", precision="fp32", compile="always")
    assert graphs.loss == pytest.approx(train("eager", precision="fp32", compile="never").loss, rel=1e-4)


def test_two_workers_on_a_gpu_have_the_losses_of_one_process(tmp_path):
    one, two = (
        flops_fit.find_optimal(
            TinyLM, "width", None, ChainData(), sequence_loss, [1e6, 2e6, 4e6], output_dir=tmp_path / str(workers),
            sweep={"min_size": 4, "max_size": 64, "size_multiple": 4, "num_sizes_per_budget": 2},
            train_config={"workers": workers, "precision": "fp32", "compile": "never"},
        )
        for workers in (1, 2)
    )  # fmt: skip
    assert [r.status for r in two.run_results] == ["completed"] * len(one.run_results)
    # The same kernels on the same device, but for those that add in any order.
    assert [r.loss for r in two.run_results] == pytest.approx([r.loss for r in one.run_results], rel=1e-5)
    assert all(r.environment["device"] == one.run_results[0].environment["device"] for r in two.run_results)
