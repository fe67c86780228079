"""The ViT family: images, model and loss as stated, sources that refuse bad files, and scripts that leave nothing."""

import gzip
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from flops_fit.examples import CIFAR10Dataset, VisionTransformer, reference, vit_loss_fn
from flops_fit.examples.vit_cifar import example_cli_wrapper, example_programmatic, presets
from flops_fit.examples.vit_cifar.fashion_mnist import DEBIAN_FOLDER
from flops_fit.examples.vit_cifar.idx_files import read_idx
from flops_fit.examples.vit_cifar.model import _cut_patches
from flops_fit.examples.vit_cifar.shapes import SHAPES, RenderedShapes
from flops_fit.examples.vit_cifar.sources import SOURCES, find_source
from PIL import Image
from torch._subclasses import FakeTensor
from torch.nn import functional as F

from flops_fit import find_optimal, train_one
from flops_fit.errors import ConfigError, ContractError


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """The library, with its cache apart."""
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return datasets


def row(label=3, size=(32, 32), colour=(100, 150, 200)):
    return {"img": Image.new("RGB", size, colour), "label": label}


def cifar(*rows):
    data = CIFAR10Dataset()
    data._dataset = list(rows)
    return data


def test_nothing_is_read_before_the_first_use(monkeypatch):
    reads = []
    monkeypatch.setattr("flops_fit.examples.vit_cifar.cifar10.load_hub_split", lambda *a: reads.append(a) or [row()])
    data = CIFAR10Dataset("test", name="someone/images")
    assert data._dataset is None
    assert reads == []
    assert len(data) == 1
    assert reads == [("someone/images", "test")]


@pytest.mark.slow
def test_no_hub_library_is_imported_with_the_scripts():
    code = (
        "import sys; from flops_fit.examples import CIFAR10Dataset\n"
        "import flops_fit.examples.vit_cifar.example_cli_wrapper; CIFAR10Dataset()\n"
        "assert not {'datasets', 'transformers', 'sklearn', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_image_is_normalised_per_channel():
    image, label = cifar(row())[0]
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.float32
    assert (label.dtype, int(label)) == (torch.int64, 3)
    # Mean and deviation of each channel of CIFAR-10's training images, as commonly published.
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    expected = (np.array([100, 150, 200]) / 255 - mean) / std
    assert image[:, 5, 7].numpy() == pytest.approx(expected, abs=1e-5)


def test_a_channel_stays_a_channel_and_a_row_a_row():
    pixels = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    image, _ = cifar({"img": Image.fromarray(pixels), "label": 0})[0]
    assert float(image[2, 4, 9]) == pytest.approx((pixels[4, 9, 2] / 255 - 0.4465) / 0.2616, abs=1e-5)


def test_rows_of_a_hugging_face_table_are_read_together(datasets):
    rows = [row(label=i, colour=(i, 2 * i, 3 * i)) for i in range(4)]
    data = CIFAR10Dataset()
    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
    data._dataset = datasets.Dataset.from_list(rows, features=features)
    assert len(data) == 4
    for (image, label), i in zip(data.__getitems__([2, 0]), (2, 0), strict=True):
        assert torch.equal(image, cifar(*rows)[i][0])
        assert int(label) == i


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"image": Image.new("RGB", (32, 32)), "label": 1}, ["'img'", "['image', 'label']", "rename_columns"]),
        ({"img": Image.new("RGB", (32, 32)), "fine_label": 1}, ["'label'", "['fine_label', 'img']"]),
        (row(size=(28, 28)), ["(28, 28, 3)", "32 x 32", "resize"]),
        (row(label=10), ["is 10", "0 to 9"]),
        (row(label=-1), ["is -1", "0 to 9"]),
        (row(label="cat"), ["'cat'", "0 to 9"]),
    ],
)
def test_a_row_that_is_no_sample_is_refused_in_one_line(bad, words):
    with pytest.raises(ContractError) as error:
        cifar(bad)[0]
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


def test_a_plan_counts_images_and_says_so():
    plan = find_optimal(
        VisionTransformer, "embed_dim", dataset=cifar(*[row(i % 10) for i in range(40)]), loss_fn=vit_loss_fn,
        eval_dataset=cifar(row()), compute_budgets=[1e9], train=False,
        sweep={"min_size": 4, "max_size": 16, "size_multiple": 4, "limits": {"max_epochs": 4000},
               "recipe": {"max_batch_samples": 16}},
    )  # fmt: skip
    assert plan.data_unit == "images"
    run = plan.experiments[0]
    assert run.tokens_per_sample == 1
    # An image costs 6 FLOPs for each parameter that all its 64 patches pass, and few others: D is no count of patches.
    assert 200 < run.compute_budget / (run.num_params * run.num_tokens) < 800
    assert any("images per parameter" in r.reason for r in plan.rejected)


def test_the_model_returns_plain_logits():
    model = VisionTransformer(8)
    logits = model(torch.randn(5, 3, 32, 32))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (5, 10)
    assert model.num_params() == sum(p.numel() for p in model.parameters())


def test_patches_times_weights_are_a_strided_convolution():
    images, weight = torch.randn(2, 3, 32, 32), torch.randn(6, 3, 4, 4)
    expected = F.conv2d(images, weight, stride=4).flatten(2).transpose(1, 2)
    assert torch.allclose(_cut_patches(images, 4) @ weight.flatten(1).T, expected, atol=1e-4)


def test_the_place_of_a_patch_matters():
    model = VisionTransformer(8)
    torch.nn.init.normal_(model.position_embedding)
    images = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(model(images), model(images.roll(8, dims=-1)), atol=1e-4)


@pytest.mark.parametrize(
    "shape", [{"embed_dim": 7}, {"embed_dim": 0}, {"embed_dim": 8, "num_heads": 0}, {"embed_dim": 8, "patch_size": 5}]
)
def test_a_model_that_cannot_be_built_is_refused(shape):
    with pytest.raises(ValueError, match="multiple of"):
        VisionTransformer(**shape)


def test_images_of_another_size_are_refused_with_both_sizes():
    with pytest.raises(ContractError, match=r"\(1, 28, 28\), expected \(3, 32, 32\)"):
        VisionTransformer(8)(torch.zeros(1, 1, 28, 28))


def test_vit_loss_is_the_mean_cross_entropy_in_nats():
    assert float(vit_loss_fn(torch.zeros(4, 10), torch.tensor([0, 3, 9, 1]))) == pytest.approx(math.log(10))
    logits, labels = torch.randn(4, 10), torch.tensor([0, 3, 9, 1])
    by_hand = -logits.log_softmax(-1)[torch.arange(4), labels].mean()
    assert float(vit_loss_fn(logits, labels)) == pytest.approx(float(by_hand), rel=1e-6)


def test_rendered_shapes_follow_from_seed_and_number_alone():
    data = RenderedShapes(1000, seed=3)
    together = data.__getitems__([7, 900, 7])
    for (image, label), i in zip(together, (7, 900, 7), strict=True):
        assert torch.equal(image, RenderedShapes(1000, seed=3)[i][0])
        assert int(label) == int(data[i][1])
    assert not torch.equal(data[7][0], RenderedShapes(1000, seed=4)[7][0])
    with pytest.raises(IndexError):
        data[1000]


def test_the_synthetic_data_hold_many_images_of_every_class():
    data = example_programmatic._make_synthetic_dataset()
    assert len(data) >= 100_000
    images, labels = (torch.stack(part) for part in zip(*data.__getitems__(range(2000)), strict=True))
    assert images.dtype == torch.float32
    assert images.shape[1:] == (3, 32, 32)
    assert len({image.numpy().tobytes() for image in images}) == 2000
    # 200 each, with a binomial standard deviation of 13.
    assert 140 < min(np.bincount(labels, minlength=len(SHAPES))) <= max(np.bincount(labels)) < 260
    # Channels are normalised: over 2000 images their mean is known to 0.02.
    assert images.mean((0, 2, 3)).numpy() == pytest.approx(0, abs=0.08)
    assert images.std((0, 2, 3)).numpy() == pytest.approx(1, abs=0.05)


def write_idx(path, array):
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, number, ending in (("train", 40, ".gz"), ("t10k", 20, "")):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{ending}", rng.integers(0, 256, (number, 28, 28)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte{ending}", np.arange(number) % 10)
    return tmp_path


def test_idx_files_are_images_of_one_channel_and_the_test_part_is_held_out(folder):
    train, held_out = find_source(f"fashion-mnist:{folder}").load()
    assert (len(train), len(held_out)) == (40, 20)
    image, label = train[13]
    assert image.shape == (1, 28, 28)
    assert int(label) == 3
    pixels = read_idx(folder / "train-images-idx3-ubyte.gz")
    assert float(image[0, 4, 9]) == pytest.approx((pixels[13, 4, 9] / 255 - 0.2860) / 0.3530, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t10k-images-idx3-ubyte", None, ["has no file t10k-images-idx3-ubyte", "dataset-fashion-mnist"]),
        ("t10k-images-idx3-ubyte", np.zeros((20, 32, 32)), ["(32, 32)", "(28, 28)"]),
        ("t10k-labels-idx1-ubyte", np.full(20, 10), ["up to 10", "0 to 9"]),
        ("t10k-labels-idx1-ubyte", np.zeros(19), ["20", "19"]),
        ("t10k-labels-idx1-ubyte", b"<html>", ["starts with 3c68746d"]),
        ("t10k-labels-idx1-ubyte", bytes((0, 0, 8, 1, 0, 0, 0, 20, 1)), ["1 bytes", "20"]),
        ("train-labels-idx1-ubyte.gz", b"\x1f\x8b\x08broken", ["cannot be read"]),
    ],
)
def test_bad_idx_files_end_with_one_line_and_leave_nothing(folder, tmp_path_factory, capsys, name, content, words):
    path, out = folder / name, tmp_path_factory.mktemp("sweep") / "out"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        write_idx(path, content)
    argv = ["--real", "--data", f"fashion-mnist:{folder}", "--output-dir", str(out)]
    assert example_programmatic.main(argv) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    assert "Traceback" not in message
    assert all(word in message for word in words)
    assert not out.exists()


def write_copy(folder, rows, datasets):
    folder.mkdir()
    for split in ("train", "test"):
        table = datasets.Dataset.from_list(rows)
        table = table.cast_column("img" if "img" in rows[0] else "image", datasets.Image())
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")


def test_a_copy_of_cifar_in_a_folder_needs_no_hub(tmp_path, datasets):
    write_copy(tmp_path / "copy", [row(label=i) for i in range(6)], datasets)
    train, held_out = find_source(str(tmp_path / "copy")).load()
    assert (len(train), len(held_out)) == (6, 6)
    assert int(train[5][1]) == 5


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"image": row()["img"], "label": 1}, "row 0 has no column 'img'"),
        (row(size=(28, 28)), "expected a PIL image of 32 x 32"),
        (row(label=10), "the label of image 0 is 10"),
    ],
)
def test_a_copy_that_cannot_be_used_ends_with_one_line_and_leaves_nothing(bad, words, tmp_path, datasets, capsys):
    copy, out = tmp_path / "copy", tmp_path / "out"
    write_copy(copy, [bad] * 3, datasets)
    assert example_cli_wrapper.main(["--real", "--data", str(copy), "--output-dir", str(out)]) == 2
    message = capsys.readouterr().err.strip()
    assert words in message.splitlines()[-1]
    assert "Traceback" not in message
    assert not out.exists()


def test_digits_name_the_package_that_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match="pip install scikit-learn"):
        find_source("digits").load()


def test_digits_are_split_without_loss_and_normalised(monkeypatch):
    rng = np.random.default_rng(0)
    table = SimpleNamespace(images=rng.integers(0, 17, (50, 8, 8)).astype(float), target=np.arange(50) % 10)
    monkeypatch.setitem(sys.modules, "sklearn", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "sklearn.datasets", SimpleNamespace(load_digits=lambda: table))
    train, held_out = find_source("digits").load()
    assert (len(train), len(held_out)) == (40, 10)
    seen = {image.numpy().tobytes() for image, _ in [*train, *held_out]}
    assert len(seen) == 50
    assert float(train.tensors[0].max()) == pytest.approx((1 - 0.3053) / 0.3761, abs=1e-4)


@pytest.mark.parametrize("data", ["fashion-mnist", "nowhere", "shapes:here", ""])
def test_unknown_data_are_refused_with_the_names_that_there_are(data, tmp_path, capsys):
    assert example_cli_wrapper.main(["--real", "--data", data, "--output-dir", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in ("'shapes'", "'digits'", "'fashion-mnist:FOLDER'"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("main", [example_programmatic.main, example_cli_wrapper.main])
def test_without_a_network_real_names_three_ways_out(main, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    assert main(["--real", "--output-dir", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in ("--data", "copy", "HF_HUB_OFFLINE"))
    assert "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_budgets_too_small_for_any_size_leave_nothing(tmp_path, capsys):
    assert example_cli_wrapper.main(["--budgets", "1e3", "--max-size", "4", "--output-dir", str(tmp_path / "out")]) == 2
    assert "The smallest budget that fits is" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A small simulated sweep, and the kinds of tensors that reached the model."""
    out, kinds = tmp_path_factory.mktemp("mock") / "out", []
    forward = VisionTransformer.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VisionTransformer, "forward", lambda self, x: kinds.append(type(x)) or forward(self, x))
        example_programmatic.run(output_dir=out, budgets=[8e9, 1.6e10, 3.2e10], max_size=10)
    return out, kinds


def test_a_simulated_sweep_makes_no_forward_pass_with_values(simulated):
    assert set(simulated[1]) == {FakeTensor}


def test_its_report_says_images_and_that_they_and_the_losses_are_synthetic(simulated):
    page = (simulated[0] / "report" / "index.html").read_text()
    assert "ViT on synthetic shapes, losses simulated" in page
    assert "D (images)" in page
    assert "tokens" not in page.replace("min_tokens_per_param", "")  # A setting's name.


@pytest.mark.parametrize("source", [*SOURCES, "fashion-mnist:somewhere"])
def test_a_preset_can_show_a_law(source):
    preset = reference.sweep_settings(find_source(source).preset)
    assert len(preset.compute_budgets) >= 5
    assert preset.limits.max_epochs <= 4
    if source != "digits":  # 1,797 images, which end at a decade.
        assert max(preset.compute_budgets) / min(preset.compute_budgets) >= 10**1.5


def test_the_command_has_the_flags_of_the_family_and_the_shape_of_its_model():
    argv = ["--num-layers", "3", "--num-heads", "4", "--patch-size", "8", "--real", "--data", "shapes"]
    flags = vars(example_cli_wrapper.build_parser().parse_args(argv))
    assert (flags["num_layers"], flags["num_heads"], flags["patch_size"]) == (3, 4, 8)
    assert (flags["real"], flags["data"]) == (True, "shapes")


@pytest.mark.slow
def test_the_shapes_are_learnable(tmp_path):
    task = example_programmatic.make_image_task(find_source("shapes"))
    loss = train_one(task, 8, 8000, recipe=presets.RECIPE, out=tmp_path).loss
    # Guessing costs ln 10 = 2.30.
    assert loss < 1.5


@pytest.mark.slow
@pytest.mark.skipif(not Path(DEBIAN_FOLDER).is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_preset_finds_a_law_of_fashion_mnist(tmp_path):
    result = example_programmatic.run(real=True, data=f"fashion-mnist:{DEBIAN_FOLDER}", output_dir=tmp_path)
    assert result.plan.num_experiments >= 20
    assert not {f.code for f in result.findings} & {"few_budgets", "optimum_at_edge", "repeated_data"}
    assert not [f for f in result.findings if f.level == "error"]
