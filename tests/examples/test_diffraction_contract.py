"""Diffraction imaging, the contract: a file that breaks it is refused by key, with what was expected and got."""

import json
import pickle

import numpy as np
import pytest
from flops_fit.examples.diffraction_imaging import make_imaging_task
from flops_fit.examples.diffraction_imaging.contract import load_patterns
from flops_fit.examples.diffraction_imaging.simulate import simulate_study

from flops_fit.errors import InputError


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    simulate_study(out, doses=[1e3], views=["baseline", "dense"], patch=16, num_train=8, num_test=4)
    return out


@pytest.fixture
def dense(study):
    with np.load(study / "phase_d" / "dose_1000" / "dense" / "dense_train.npz") as file:
        return dict(file)


def changed_metadata(arrays, **changes):
    found = {**json.loads(str(arrays["_metadata"])), **changes}
    return np.array(json.dumps({k: v for k, v in found.items() if v is not ...}))


def refused(tmp_path, arrays, gridsize=2):
    np.savez(tmp_path / "broken.npz", **arrays)
    with pytest.raises(InputError) as caught:
        load_patterns(tmp_path / "broken.npz", gridsize=gridsize)
    assert "broken.npz" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("key", ["diffraction", "xcoords", "ycoords", "probeGuess", "objectGuess", "Y", "nn_indices"])
def test_a_missing_array_is_named(key, dense, tmp_path):
    del dense[key]
    message = refused(tmp_path, dense)
    assert f"key {key!r}" in message
    assert "got only the keys" in message


@pytest.mark.parametrize(
    ("key", "change", "expected", "got"),
    [
        ("diffraction", lambda x: x[..., :12], "(n, N, N)", "float32 of shape (32, 16, 12)"),
        ("diffraction", lambda x: x.astype(np.float64), "float32 of shape", "float64 of shape (32, 16, 16)"),
        ("diffraction", lambda x: x - 1, "amplitudes from 0 to under 10", "values from -1"),
        ("diffraction", lambda x: x * 100, "amplitudes from 0 to under 10", "values from 0 to"),
        ("diffraction", lambda x: x * np.float32("nan"), "finite numbers", "NaN"),
        ("diffraction", lambda x: x[:0], "at least one pattern", "(0, 16, 16)"),
        ("xcoords", lambda x: x[:5], "float64 of shape (32,)", "(5,)"),
        ("probeGuess", lambda x: x.real, "complex64 of shape (16, 16)", "float32"),
        ("objectGuess", lambda x: x[1:], "(M, M)", "complex64 of shape"),
        ("Y", lambda x: x[1:], "complex64 of shape (32, 16, 16)", "(31, 16, 16)"),
        ("object_index", lambda x: x.astype(float), "integers of shape (32,)", "float64"),
        ("nn_indices", lambda x: x[:, :3], "(B, 4)", "(8, 3)"),
        ("nn_indices", lambda x: x + 20, "numbers of patterns, from 0 to 31", "20 to 51"),
    ],
)  # fmt: skip
def test_a_wrong_array_is_refused_with_what_was_expected_and_got(key, change, expected, got, dense, tmp_path):
    dense[key] = change(dense[key])
    message = refused(tmp_path, dense)
    assert f"key {key!r}" in message
    assert expected in message
    assert got in message


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"scale": ...}, ["key '_metadata'", "no scale"]),
        ({"scale": 0}, ["key '_metadata.scale'", "a positive number", "got 0"]),
        ({"nphotons": "many"}, ["key '_metadata.nphotons'", "got 'many'"]),
        ({"version": 99}, ["key '_metadata.version'", "expected 1", "got 99"]),
    ],
)
def test_wrong_metadata_are_refused_by_key(changes, parts, dense, tmp_path):
    dense["_metadata"] = changed_metadata(dense, **changes)
    message = refused(tmp_path, dense)
    assert all(part in message for part in parts)


@pytest.mark.parametrize("text", [np.array("{"), np.array("[1]"), np.array(3), None])
def test_metadata_that_are_no_json_object_are_refused(text, dense, tmp_path):
    dense.pop("_metadata")
    message = refused(tmp_path, dense if text is None else {**dense, "_metadata": text})
    assert "key '_metadata': expected JSON text" in message


def test_another_grid_size_than_asked_for_is_refused(study):
    with pytest.raises(InputError, match=r"key '_metadata.gridsize': expected 2, got 1"):
        load_patterns(study / "phase_c" / "dose_1000" / "patched_train.npz", gridsize=2)


def test_the_older_name_of_the_amplitudes_is_read_too(dense, tmp_path):
    dense["diff3d"] = dense.pop("diffraction")
    np.savez(tmp_path / "old.npz", **dense)
    assert np.array_equal(load_patterns(tmp_path / "old.npz", gridsize=2).diffraction, dense["diff3d"])


def test_the_index_of_objects_may_be_absent(dense, tmp_path):
    del dense["object_index"]
    np.savez(tmp_path / "plain.npz", **dense)
    assert load_patterns(tmp_path / "plain.npz", gridsize=2).object_index is None


def test_every_pattern_of_grid_size_1_is_a_group_of_its_own(study):
    data = load_patterns(study / "phase_c" / "dose_1000" / "patched_train.npz", gridsize=1)
    assert data.groups.tolist() == [[i] for i in range(8)]


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_archive_is_refused(content, tmp_path):
    (tmp_path / "broken.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"broken.npz: not readable as an npz file"):
        load_patterns(tmp_path / "broken.npz", gridsize=1)


def test_a_file_that_was_cut_off_is_refused(study, tmp_path):
    whole = (study / "phase_c" / "dose_1000" / "patched_train.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut.npz: not readable"):
        load_patterns(tmp_path / "cut.npz", gridsize=1)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.npz: there is no such file"):
        load_patterns(tmp_path / "nowhere.npz", gridsize=1)


def test_a_single_array_is_no_file_of_patterns(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match="got a single array"):
        load_patterns(tmp_path / "one.npy", gridsize=1)


class _Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_nothing_in_a_file_is_unpickled(dense, tmp_path):
    dense["Y"] = np.array([_Trap()], dtype=object)
    assert "not readable" in refused(tmp_path, dense)
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(InputError, match="not readable"):
        load_patterns(tmp_path / "pickle.npz", gridsize=1)


def test_a_test_file_with_objects_of_the_training_file_is_refused(study):
    train = study / "phase_d" / "dose_1000" / "dense" / "dense_train.npz"
    with pytest.raises(InputError, match="key 'object_index': expected objects that"):
        make_imaging_task(train, train, gridsize=2)


def test_files_of_two_patch_sizes_are_refused(study, tmp_path):
    simulate_study(tmp_path, doses=[1e3], views=["baseline"], patch=8, num_train=4, num_test=4)
    folder = "phase_c/dose_1000"
    with pytest.raises(InputError, match="expected patterns of 16 x 16 pixels"):
        make_imaging_task(study / folder / "patched_train.npz", tmp_path / folder / "patched_test.npz", gridsize=1)
