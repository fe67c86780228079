"""What only a GPU can show: run these where there is one, `pytest -m gpu`."""

import pytest
import torch
from support import ChainData, TinyLM, make_experiment, sequence_loss

import flops_fit
from flops_fit.training import TrainSettings, train_experiment

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


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
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
