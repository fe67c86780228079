"""Diffraction imaging, the physics: energy, photon statistics, overlap of discs, and objects that are not shared."""

import hashlib
import json
import sys
import zipfile

import numpy as np
import pytest
from flops_fit.examples.diffraction_imaging import far_field, scan
from flops_fit.examples.diffraction_imaging.contract import load_patterns
from flops_fit.examples.diffraction_imaging.objects import AMPLITUDE, MAX_PHASE, make_random_object
from flops_fit.examples.diffraction_imaging.photographs import make_photograph_object
from flops_fit.examples.diffraction_imaging.probe import DIAMETER, make_probe
from flops_fit.examples.diffraction_imaging.reconstruction import poisson_deviance
from flops_fit.examples.diffraction_imaging.simulate import simulate_study
from scipy import stats

from flops_fit.errors import ConfigError

DOSES = (1e2, 1e3, 1e4, 1e5)
SMALL = {"patch": 16, "num_train": 96, "num_test": 48}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    simulate_study(out, doses=DOSES, views=tuple(scan.VIEWS), **SMALL)
    return out


def gridsize_of(path):
    return 2 if "phase_d" in path.parts else 1


def files(study):
    return {path: load_patterns(path, gridsize=gridsize_of(path)) for path in sorted(study.rglob("*.npz"))}


def patches(count, patch=16, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([make_random_object(patch, rng) for _ in range(count)])


@pytest.mark.parametrize("patch", [16, 32])
def test_the_detector_receives_the_light_that_leaves_the_object(patch):
    waves = far_field.exit_waves(make_probe(patch), patches(4, patch))
    intensity = far_field.diffract(waves)
    assert intensity.sum((1, 2)) == pytest.approx((np.abs(waves) ** 2).sum((1, 2)), rel=1e-5)


def test_the_far_field_of_a_plane_wave_is_one_bright_pixel_in_the_middle():
    intensity = far_field.diffract(np.ones((1, 8, 8), dtype=np.complex128))[0]
    assert intensity[4, 4] == pytest.approx(64)
    assert intensity.sum() == pytest.approx(64)


def test_the_probe_has_unit_mean_power_inside_its_disc():
    probe = make_probe(32)
    power = np.abs(probe) ** 2
    axis = np.arange(32) - 15.5
    outside = np.hypot(axis[:, None], axis) > DIAMETER * 32 / 2 + 3
    assert power.mean() == pytest.approx(1, rel=1e-5)
    # Of the soft edge, exp(-2 * 3 / 0.5) is left three pixels out.
    assert power[outside].max() < 1e-4 * power.max()


def test_objects_stay_within_their_stated_range():
    found = make_random_object(64, np.random.default_rng(1))
    assert np.abs(found).min() >= AMPLITUDE[0] - 1e-6
    assert np.abs(found).max() <= AMPLITUDE[1] + 1e-6
    assert np.abs(np.angle(found)).max() <= MAX_PHASE + 1e-6


def test_patterns_have_as_many_photons_on_average_as_the_dose(study):
    for path, data in files(study).items():
        counts = far_field.photon_counts(data.diffraction, data.scale)
        # 48 patterns of 100 photons: their mean is known to 1.4 %; from 1,000 on the test is of 1 %.
        tolerance = 0.05 if data.metadata["nphotons"] < 1e3 else 0.01
        assert counts.sum((1, 2)).mean() == pytest.approx(data.metadata["nphotons"], rel=tolerance), path


def test_counts_are_whole_numbers_at_every_dose(study):
    for data in files(study).values():
        counts = (data.diffraction.astype(np.float64) * data.scale) ** 2
        # float32 holds an amplitude to 6e-8, so a count of 10,000 to about 1e-3.
        assert np.abs(counts - np.rint(counts)).max() < 1e-2


def test_counts_follow_the_far_field_of_the_probe_and_the_truth_in_the_file(study):
    data = load_patterns(study / "phase_d" / "dose_100000" / "dense" / "dense_test.npz", gridsize=2)
    size = data.probe.shape[0]
    intensity = np.abs(np.fft.fftshift(np.fft.fft2(data.probe * data.truth), axes=(1, 2))) ** 2 / size**2
    rates = data.scale**2 * intensity
    counts = far_field.photon_counts(data.diffraction, data.scale)
    bright = rates > 20
    residuals = (counts - rates)[bright] / np.sqrt(rates[bright])
    # Some 20,000 normal numbers: mean to .007, variance to .01; five of these.
    assert residuals.mean() == pytest.approx(0, abs=0.035)
    assert residuals.var() == pytest.approx(1, abs=0.05)


def test_repeated_records_of_one_pattern_have_the_variance_of_photons():
    probe, (patch,) = make_probe(16), patches(1)
    scale = far_field.photon_scale(probe, patch[None], 1e4)
    again = np.repeat(patch[None], 4000, axis=0)
    counts = far_field.photon_counts(far_field.record_patterns(probe, again, scale, np.random.default_rng(0)), scale)
    lit = counts.mean(0) > 1
    assert lit.sum() > 50
    assert (counts.var(0)[lit] / counts.mean(0)[lit]).mean() == pytest.approx(1, abs=0.05)


def test_dose_is_noise_and_not_brightness(study):
    means = [
        load_patterns(study / "phase_c" / f"dose_{dose:.0f}" / "patched_train.npz", gridsize=1).diffraction.mean()
        for dose in (1e4, 1e5)
    ]
    assert means[0] == pytest.approx(means[1], rel=0.05)


@pytest.mark.parametrize(("distance", "overlap"), [(0, 1), (0.5, 0.391), (1, 0), (1.7, 0)])
def test_the_overlap_of_discs_is_that_of_the_lens(distance, overlap):
    # Distance in diameters; 2/3 - sqrt(3)/(2 pi) = 0.391 at one radius.
    assert scan.disc_overlap(distance * 19.2, 19.2) == pytest.approx(overlap, abs=5e-4)


def test_the_overlap_of_discs_is_the_area_counted_on_a_fine_grid():
    axis = (np.arange(2000) + 0.5) / 500 - 2
    x, y = axis[None, :], axis[:, None]
    first = x**2 + y**2 < 1
    both = first & ((x - 0.7) ** 2 + y**2 < 1)
    assert scan.disc_overlap(0.7, 2) == pytest.approx(both.sum() / first.sum(), abs=1e-3)


@pytest.mark.parametrize(("view", "overlap"), [("dense", 0.61), ("sparse", 0.12)])
def test_views_record_the_overlap_that_their_positions_have(view, overlap, tmp_path):
    simulate_study(tmp_path, doses=[1e3], views=[view], patch=32, num_train=8, num_test=8)
    data = load_patterns(tmp_path / "phase_d" / "dose_1000" / view / f"{view}_train.npz", gridsize=2)
    assert data.metadata["overlap"] == pytest.approx(overlap, abs=0.005)
    x, y = data.xcoords[data.groups], data.ycoords[data.groups]
    # A block: the second stands to the right of the first, the third below it, at one distance.
    assert (x[:, 1] - x[:, 0] == y[:, 2] - y[:, 0]).all()
    assert (x[:, 1] > x[:, 0]).all()
    assert (y[:, 1] == y[:, 0]).all()
    lens = scan.disc_overlap(x[0, 1] - x[0, 0], DIAMETER * 32)
    assert data.metadata["overlap"] == pytest.approx(float(lens))


def test_a_single_pattern_has_no_overlap(study):
    data = load_patterns(study / "phase_c" / "dose_1000" / "patched_train.npz", gridsize=1)
    assert data.metadata["overlap"] is None


def test_truth_is_the_part_of_the_object_at_the_stated_position(study):
    for data in files(study).values():
        half = data.truth.shape[-1] // 2
        for i in (0, len(data.truth) // 2, len(data.truth) - 1):
            x, y = int(data.xcoords[i]), int(data.ycoords[i])
            cut = data.objects[y - half : y + half, x - half : x + half]
            assert np.array_equal(cut, data.truth[i])


def test_training_and_test_files_share_no_object(study):
    found = files(study)
    train = {int(i) for path, d in found.items() if "train" in path.name for i in d.object_index}
    test = {int(i) for path, d in found.items() if "test" in path.name for i in d.object_index}
    assert len(train) == 3
    assert len(test) == 2
    assert not train & test


def test_a_group_never_crosses_objects(study):
    for data in files(study).values():
        members = data.object_index[data.groups]
        assert (members == members[:, :1]).all()


def test_all_conditions_ask_for_the_same_patches(study):
    truths = [data.truth[data.groups[:, 0]] for path, data in files(study).items() if "train" in path.name]
    assert len(truths) == 12
    assert all(np.array_equal(truths[0], other) for other in truths)


def test_the_same_arguments_give_the_same_bytes_whatever_else_is_simulated(tmp_path):
    digests = []
    for out, doses, views in (("a", [1e3, 1e4], ("baseline", "dense")), ("b", [1e3], ("dense",))):
        paths = simulate_study(tmp_path / out, doses=doses, views=views, patch=16, num_train=8, num_test=8)
        digests.append({str(p.relative_to(tmp_path / out)): hashlib.sha256(p.read_bytes()).digest() for p in paths})
    assert digests[1].items() <= digests[0].items()
    assert len(digests[1]) == 2


def test_files_hold_no_time_of_writing(study):
    with zipfile.ZipFile(study / "phase_c" / "dose_1000" / "patched_test.npz") as file:
        assert {member.date_time for member in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_another_seed_gives_other_objects(tmp_path):
    arguments = {"doses": [1e3], "views": ["baseline"], "patch": 16, "num_train": 4, "num_test": 4}
    a, b = (
        load_patterns(simulate_study(tmp_path / str(seed), seed=seed, **arguments)[0], gridsize=1) for seed in (1, 2)
    )
    assert not np.allclose(a.truth, b.truth)


def test_files_lie_where_the_study_looks_for_them(study):
    names = {str(p.relative_to(study)) for p in study.rglob("*.npz")}
    assert {"phase_c/dose_1000/patched_train.npz", "phase_d/dose_100000/sparse/sparse_test.npz"} <= names
    assert len(names) == 24
    assert not [p for p in study.rglob("*") if p.name.startswith(".")]


def test_metadata_are_strict_json_with_the_keys_of_the_contract(study):
    with np.load(study / "phase_d" / "dose_100" / "dense" / "dense_test.npz", allow_pickle=False) as file:
        found = json.loads(str(file["_metadata"]))
        assert file["nn_indices"].shape == (48, 4)
    assert set(found) == {"nphotons", "view", "gridsize", "overlap", "scale", "seeds", "version"}
    assert (found["nphotons"], found["view"], found["gridsize"]) == (100, "dense", 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"views": ["wide"]}, "view: got 'wide', expected one of baseline, dense, sparse"),
        ({"doses": [1e3, 1000.2]}, "differ when rounded"),
        ({"doses": [float("nan")]}, "photons per pattern from 1 on"),
        ({"patch": 18}, "patch: got 18, expected a multiple of 4"),
        ({"num_test": 0}, "num_test: got 0"),
        ({"test_object": "cat"}, "test_object: got 'cat', expected one of random, photograph"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(wrong, message, tmp_path):
    arguments = {"doses": [1e3], "views": ["baseline"], "patch": 16, "num_train": 4, "num_test": 4}
    with pytest.raises(ConfigError, match=message):
        simulate_study(tmp_path / "study", **{**arguments, **wrong})
    assert not (tmp_path / "study").exists()


def test_photographs_need_scikit_image_and_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ConfigError, match="pip install scikit-image"):
        make_photograph_object(64, np.random.default_rng(0))


def test_photographs_become_objects_of_the_same_range():
    pytest.importorskip("skimage")
    found = make_photograph_object(64, np.random.default_rng(0))
    assert found.shape == (64, 64)
    assert np.abs(found).min() >= AMPLITUDE[0] - 1e-6
    assert np.abs(np.angle(found)).max() <= MAX_PHASE + 1e-6
    assert np.abs(found).std() > 0.05


@pytest.mark.parametrize("rate", [0.1, 1.0, 5.0, 200.0])
def test_the_deviance_of_the_true_rates_is_what_photon_noise_gives(rate):
    counts = np.random.default_rng(0).poisson(rate, (40, 50, 50)).astype(np.float64)
    k = np.arange(1, 2000)
    exact = 2 * float(np.sum(stats.poisson.pmf(k, rate) * k * np.log(k / rate)))
    # 100,000 pixels, each of standard deviation 1.5 or so: 0.005, and four of these.
    assert poisson_deviance(counts, np.full(counts.shape, rate)) == pytest.approx(exact, abs=0.02)
    if rate == 200.0:
        assert exact == pytest.approx(1, abs=0.01)


def test_the_truth_explains_its_own_photons_to_one_unit_of_deviance_a_pixel():
    probe, truth = make_probe(16), patches(50)
    scale = far_field.photon_scale(probe, truth, 1e9)
    counts = far_field.photon_counts(far_field.record_patterns(probe, truth, scale, np.random.default_rng(0)), scale)
    rates = scale**2 * far_field.diffract(far_field.exit_waves(probe, truth))
    # 12,800 pixels of standard deviation sqrt(2); float32 amplitudes add less than a photon.
    assert poisson_deviance(counts, rates) == pytest.approx(1, abs=0.06)
