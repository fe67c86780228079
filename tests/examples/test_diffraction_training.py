"""Diffraction imaging, the network: its loss, its metrics, the three normalisations, and what dose and overlap do."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from flops_fit.examples.diffraction_imaging import (
    UNet,
    contract,
    dataset,
    far_field,
    make_imaging_task,
    measure_reconstruction,
    show_study,
    simulate_study,
)
from flops_fit.examples.diffraction_imaging.loss import global_phase_free_error
from flops_fit.examples.diffraction_imaging.pictures import Reconstruction, draw_reconstructions, to_display
from flops_fit.examples.diffraction_imaging.reconstruction import patch_errors
from flops_fit.examples.diffraction_imaging.simulate import file_of
from matplotlib.image import imread
from safetensors.torch import load_file, save_file
from torch import nn

from flops_fit import train_one
from flops_fit.errors import ConfigError, ContractError
from flops_fit.tasks.loss_check import check_loss_is_mean

VIEWS = ("baseline", "sparse", "dense")
RECIPE = {
    "reference_params": 30_000,
    "learning_rate": 0.004,
    "learning_rate_exponent": -0.25,
    "warmup_tokens_per_param": 4,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    simulate_study(out, doses=[1e2, 1e4], views=VIEWS, patch=16, num_train=64, num_test=32)
    return out


def task_of(study, view="dense", dose=1e4):
    train, test = (file_of(study, dose=dose, view=view, split=split) for split in ("train", "test"))
    return make_imaging_task(train, test, gridsize=1 if view == "baseline" else 2)


def a_batch(seed=0, count=6):
    generator = torch.Generator().manual_seed(seed)
    outputs, targets = (
        torch.randn(count, 2, 8, 8, generator=generator),
        torch.randn(count, 3, 8, 8, generator=generator),
    )
    targets[:, 2] = targets[:, 2].abs()
    return outputs, targets


def turned(outputs, angle):
    patch = torch.view_as_complex(outputs.permute(0, 2, 3, 1).contiguous()) * np.exp(1j * angle)
    return torch.view_as_real(patch).permute(0, 3, 1, 2).float()


class Truth(nn.Module):
    """Returns the true patches in order, turned by a phase."""

    def __init__(self, patches, angle=0.7):
        super().__init__()
        self.patches, self.position = torch.from_numpy(patches * np.exp(1j * angle)), 0

    def forward(self, amplitudes):
        found = self.patches[self.position : self.position + len(amplitudes)]
        self.position += len(amplitudes)
        return torch.stack([found.real, found.imag], dim=1).float()


def test_the_loss_is_the_least_error_over_all_global_phases():
    outputs, targets = a_batch(count=1)
    weight, truth = targets[:, 2], torch.complex(targets[:, 0], targets[:, 1])
    errors = [
        float((weight * (torch.complex(*turned(outputs, a).unbind(1)) - truth).abs() ** 2).sum())
        for a in np.linspace(0, 2 * np.pi, 2001)
    ]
    expected = min(errors) / float((weight * truth.abs() ** 2).sum())
    # Next to its minimum the error is quadratic in the phase: half a step of 0.003 is off by 1e-6.
    assert float(global_phase_free_error(outputs, targets)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("angle", [0.3, 2.0, -3.1])
def test_a_global_phase_does_not_change_the_loss(angle):
    outputs, targets = a_batch()
    found = global_phase_free_error(turned(outputs, angle), targets)
    assert float(found) == pytest.approx(float(global_phase_free_error(outputs, targets)), rel=1e-5)


def test_the_truth_has_no_loss_and_nothing_has_one():
    _, targets = a_batch()
    assert float(global_phase_free_error(turned(targets[:, :2], 1.0), targets)) == pytest.approx(0, abs=1e-5)
    assert float(global_phase_free_error(torch.zeros_like(targets[:, :2]), targets)) == pytest.approx(1, abs=1e-5)


def test_a_network_that_returns_zeros_has_a_finite_gradient():
    _, targets = a_batch()
    outputs = torch.zeros_like(targets[:, :2], requires_grad=True)
    global_phase_free_error(outputs, targets).backward()
    assert torch.isfinite(outputs.grad).all()


def test_what_no_light_falls_on_does_not_count():
    outputs, targets = a_batch()
    targets[:, 2, :4] = 0
    other = outputs.clone()
    other[:, :, :4] = 100
    assert torch.equal(global_phase_free_error(outputs, targets), global_phase_free_error(other, targets))


@pytest.mark.parametrize("view", VIEWS)
def test_the_loss_is_the_mean_that_the_engine_takes_it_for(view, study):
    task = task_of(study, view)
    check_loss_is_mean(task, 8, UNet(8, 4).num_params())


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_the_size_of_a_micro_batch_changes_no_loss(micro_batch, study, tmp_path):
    losses = []
    for samples in (8, micro_batch):
        config = {"precision": "fp32", "compile": "never", "micro_batch_samples": samples}
        recipe = {"min_batch_samples": 8, "max_batch_samples": 8}
        task = task_of(study)
        out = tmp_path / str(samples)
        losses.append(train_one(task, 4, 24 * task.tokens_per_sample, out=out, recipe=recipe, train_config=config).loss)
    # Three steps of rounding errors in float32, through group norms.
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(("view", "pixels"), [("baseline", 256), ("dense", 1024)])
def test_d_counts_detector_pixels(view, pixels, study):
    task = task_of(study, view)
    assert task.data_unit == "pixels"
    assert task.tokens_per_sample == pixels
    assert task.unique_tokens == 64 * pixels


def test_flops_are_those_of_convolutions_that_reuse_their_weights(study, tmp_path):
    task = task_of(study)
    recipe = {"min_batch_samples": 8, "max_batch_samples": 8}
    run = train_one(task, 16, 8 * 1024, out=tmp_path, recipe=recipe).experiment
    w, convolutions = 4, []  # Channels at full resolution are a quarter of the width.
    for side, pairs in {
        16: [(4, w), (w, w), (3 * w, w), (w, w)],
        8: [(w, 2 * w), (2 * w, 2 * w), (6 * w, 2 * w), (2 * w, 2 * w)],
        4: [(2 * w, 4 * w), (4 * w, 4 * w)],
    }.items():
        convolutions += [2 * 9 * a * b * side**2 for a, b in pairs]
    convolutions.append(2 * w * 2 * 16**2)
    # Backward costs twice as much, but for the first, whose input needs no gradient.
    expected = 3 * sum(convolutions) - convolutions[0]
    assert run.flops_per_token * 1024 == pytest.approx(expected, rel=0.01)


def test_a_task_is_the_same_after_a_trip_through_pickle(study):
    task = task_of(study)
    again = pickle.loads(pickle.dumps(task))
    assert again.fingerprint == task.fingerprint


def test_other_noise_is_another_task(study):
    assert task_of(study, dose=1e2).fingerprint != task_of(study, dose=1e4).fingerprint


@pytest.mark.parametrize("width", [0, 6, -4])
def test_widths_are_multiples_of_four(width):
    with pytest.raises(ValueError, match=f"width={width} is not a positive multiple of 4"):
        UNet(width)


def test_a_network_refuses_the_patterns_of_another_grid_size(study):
    with pytest.raises(ContractError, match=r"got amplitudes of shape \(2, 4, 16, 16\), expected \(batch, 1, N, N\)"):
        UNet(4, in_channels=1)(torch.zeros(2, 4, 16, 16))


def test_the_truth_has_no_error_and_one_unit_of_deviance_a_pixel_where_counts_are_high(tmp_path):
    simulate_study(tmp_path, doses=[1e8], views=["dense"], patch=16, num_train=1, num_test=300)
    file = file_of(tmp_path, dose=1e8, view="dense", split="test")
    data = contract.load_patterns(file, gridsize=2)
    found = measure_reconstruction(Truth(data.truth[data.groups[:, 0]]), file, gridsize=2)
    assert found["amplitude_error"] == pytest.approx(0, abs=1e-5)
    assert found["phase_error"] == pytest.approx(0, abs=1e-5)
    # 76,800 pixels of standard deviation sqrt(2): .005; the darkest of them have fewer photons and a little less.
    assert found["poisson_deviance"] == pytest.approx(1, abs=0.05)


def test_errors_are_fractions_and_radians():
    rng = np.random.default_rng(0)
    truth = np.exp(1j * rng.uniform(-1, 1, (3, 8, 8))).astype(np.complex64)
    amplitude, phase = patch_errors(1.1 * truth, truth, np.ones((8, 8)))
    assert amplitude == pytest.approx(0.1, abs=1e-5)
    assert phase == pytest.approx(0, abs=1e-5)
    signs = np.where(np.indices((8, 8)).sum(0) % 2, 1, -1)
    amplitude, phase = patch_errors(truth * np.exp(0.2j * signs), truth, np.ones((8, 8)))
    assert amplitude == pytest.approx(0, abs=1e-5)
    assert phase == pytest.approx(0.2, abs=1e-5)


def test_metrics_are_finite_even_where_the_network_predicts_no_photon(study):
    class Nothing(nn.Module):
        def forward(self, amplitudes):
            return torch.zeros(len(amplitudes), 2, 16, 16)

    found = measure_reconstruction(Nothing(), file_of(study, dose=1e2, view="sparse", split="test"), gridsize=2)
    assert set(found) == {"amplitude_error", "phase_error", "poisson_deviance"}
    assert all(math.isfinite(value) for value in found.values())
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["amplitude_error"] == pytest.approx(1)


def test_measuring_leaves_a_network_as_it_was(study):
    model = UNet(4, 4).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_reconstruction(model, file_of(study, dose=1e2, view="dense", split="test"), gridsize=2)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_three_normalisations_do_not_mix(study):
    data = contract.load_patterns(file_of(study, dose=1e2, view="dense", split="test"), gridsize=2)
    stored = data.diffraction.copy(), data.truth.copy()
    groups = dataset.PatternGroups(data)
    inputs, targets = groups.batch(np.arange(groups.num_samples))
    # Input: undone, it is what is stored, the same for dim patterns as for bright ones.
    amplitudes = inputs * dataset.INPUT_STD + dataset.INPUT_MEAN
    assert amplitudes.numpy() == pytest.approx(data.diffraction[data.groups], abs=1e-6)
    # Targets carry none of the three.
    assert np.array_equal(targets[:, 0].numpy(), data.truth[data.groups[:, 0]].real)
    # Physics: counts come from what is stored, whatever the network or the picture was shown.
    counts = far_field.photon_counts(data.diffraction, data.scale)
    assert counts.sum((1, 2)).mean() == pytest.approx(100, rel=0.05)
    # Display: masks, and returns new arrays.
    amplitude, _ = to_display(data.truth[0].astype(np.complex128), data.probe)
    amplitude[:] = 0
    assert np.array_equal(data.diffraction, stored[0])
    assert np.array_equal(data.truth, stored[1])


def test_a_picture_shows_a_row_for_each_reconstruction(study, tmp_path):
    shown = [
        Reconstruction(model=UNet(4, 4), test_file=file_of(study, dose=dose, view="dense", split="test"), gridsize=2)
        for dose in (1e2, 1e4)
    ]
    sizes = []
    for count in (1, 2):
        draw_reconstructions(shown[:count], tmp_path / f"{count}.png", num_patches=2)
        sizes.append(imread(tmp_path / f"{count}.png").shape[0])
    assert sizes[1] > 1.5 * sizes[0]


def test_a_picture_of_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="got 0 reconstructions"):
        draw_reconstructions([], tmp_path / "none.png")
    assert not list(tmp_path.iterdir())


def test_a_picture_of_an_unknown_format_is_refused(study, tmp_path):
    one = Reconstruction(model=UNet(4), test_file=file_of(study, dose=1e2, view="baseline", split="test"), gridsize=1)
    with pytest.raises(ConfigError, match=r"got the name 'picture.psd', expected one that ends in"):
        draw_reconstructions([one], tmp_path / "picture.psd")


@pytest.fixture
def artifacts(study, tmp_path):
    """What a study leaves: a manifest of a completed training, a failed one and a stub; weights of the first."""
    torch.manual_seed(0)
    save_file(UNet(8, 4).state_dict(), tmp_path / "weights.safetensors")
    test = file_of(study, dose=1e2, view="dense", split="test")
    job = {"gridsize": 2, "test_data_path": str(test)}
    results = [
        {"status": "completed", "checkpoint": "weights.safetensors"},
        {"status": "failed", "reason": "no space"},
        {"status": "stub_complete"},
        None,
    ]
    jobs = [{**job, "result": result} for result in results]
    (tmp_path / "training_manifest.json").write_text(json.dumps({"jobs": jobs}))
    return tmp_path


def test_the_networks_of_a_study_are_read_with_the_width_that_they_have(artifacts):
    (found,) = show_study.read_study(artifacts)
    torch.manual_seed(0)
    assert torch.equal(found.model.head.weight, UNet(8, 4).head.weight)
    assert found.gridsize == 2


def test_a_study_becomes_a_picture(artifacts, capsys):
    picture = artifacts / "study.png"
    assert show_study.main([str(artifacts), str(picture), "--patches", "1"]) == 0
    assert capsys.readouterr().out == f"{picture}\n"
    assert imread(picture).ndim == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("training_manifest.json", b"{}", "not a manifest of a study"),
        ("training_manifest.json", b'{"jobs": []}', "got no training with a checkpoint"),
        ("weights.safetensors", b"nothing", "not the weights of this U-Net"),
    ],
)
def test_a_study_that_cannot_be_shown_says_why(name, content, message, artifacts, capsys):
    (artifacts / name).write_bytes(content)
    assert show_study.main([str(artifacts), str(artifacts / "study.png")]) == 2
    assert message in capsys.readouterr().err
    assert not (artifacts / "study.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_more_photons_and_more_overlap_give_a_better_picture(seed, tmp_path):
    simulate_study(tmp_path, doses=[1e2, 1e4], views=VIEWS, patch=16, num_train=2048, num_test=256, seed=seed)
    recipe = {"min_batch_samples": 16, "max_batch_samples": 16, **RECIPE}
    losses, errors = {}, {}
    for view in VIEWS:
        for dose in (1e2, 1e4):
            task, out = task_of(tmp_path, view, dose), tmp_path / f"{view}_{dose:.0f}"
            tokens = 6400 * task.tokens_per_sample
            config = {"precision": "fp32", "compile": "never", "keep_weights": "final"}
            run = train_one(task, 32, tokens, out=out, recipe=recipe, train_config=config, seed=seed)
            model = task.model_cls(32, **task.model_kwargs)
            model.load_state_dict(load_file(out / run.weights["final"]))
            test = file_of(tmp_path, dose=dose, view=view, split="test")
            found = measure_reconstruction(model, test, gridsize=1 if view == "baseline" else 2)
            losses[view, dose], errors[view, dose] = run.loss, found["phase_error"]
    for view in VIEWS:
        # Over seeds a loss varies by some 4 %; two decades of dose lower it by a third or more.
        assert losses[view, 1e4] < 0.85 * losses[view, 1e2]
        assert errors[view, 1e4] < errors[view, 1e2]
    assert losses["dense", 1e4] < 0.9 * losses["baseline", 1e4]
