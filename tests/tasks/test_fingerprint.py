"""Equal work has an equal fingerprint, other work another: in code, in constants, in state and in data."""

import functools
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

from flops_fit.data import as_source
from flops_fit.errors import ContractError
from flops_fit.tasks import make_task

MODULE = '''
"""A user's module."""
import torch
from torch import nn
from torch.nn import functional as F
from functools import cache
from dataclasses import dataclass

SLOPE = 0.1
NAMES = {"b", "a", "c"}

@dataclass
class Config:
    depth: int = 2

def activation(x):
    """Applied after each layer."""
    return F.leaky_relu(x, SLOPE)

@cache
def depth():
    return len(NAMES)

class Part(nn.Module):
    """A part."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    @torch.no_grad()
    def look(self, x):
        return x * 3

    def forward(self, x):
        # Comment.
        return activation(self.layer(x)) * depth()

class Model(nn.Module):
    config = Config()

    def __init__(self, width):
        super().__init__()
        self.part = Part(width)

    def forward(self, x):
        from torch import sin
        return sin(self.part(x))
'''
COSMETIC = {
    "a comment": ("# Comment.", "# Another comment.\n        # Of two lines."),
    "a docstring": ('"""A part."""', '"""A part of the model,\n\n    explained.\n    """'),
    "a function's docstring": ('"""Applied after each layer."""', '"""Something else."""'),
    "formatting": (
        "activation(self.layer(x)) * depth()",
        "(activation(\n            self.layer(x)\n        ) * depth())",
    ),
    "an annotation": ("width: int) -> None", "width)"),
    "an unused function": ("SLOPE = 0.1", "SLOPE = 0.1\n\ndef unused():\n    return 5"),
}
CHANGED = {
    "a constant": ("SLOPE = 0.1", "SLOPE = 0.2"),
    "a helper": ("F.leaky_relu(x, SLOPE)", "F.leaky_relu(x, 2 * SLOPE)"),
    "a sub-module": ("nn.Linear(width, width)", "nn.Linear(width, width, bias=False)"),
    "a cached function": ("len(NAMES)", "len(NAMES) + 1"),
    "a set": ('"c"}', '"d"}'),
    "a wrapped method": ("x * 3", "x * 4"),
    "a field": ("depth: int = 2", "depth: int = 3"),
    "an import": ("from torch import sin", "from torch import cos as sin"),
}


def model_of(text, name, folder):
    """Imports the text as a module of that name."""
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = __import__("importlib.util").util.spec_from_file_location(name, path)
    module = __import__("importlib.util").util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model


def fingerprint(model_cls=nn.Identity, loss_fn=None, data=None, **options):
    return make_task(model_cls, "width", loss_fn=loss_fn, train_data=data, **options).fingerprint


@pytest.mark.parametrize("change", COSMETIC.values(), ids=COSMETIC)
def test_text_that_computes_nothing_does_not_count(tmp_path, change):
    before, after = model_of(MODULE, "before", tmp_path), model_of(MODULE.replace(*change), "after", tmp_path)
    assert MODULE.replace(*change) != MODULE
    assert fingerprint(before) == fingerprint(after)


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_a_changed_computation_counts(tmp_path, change):
    before, after = model_of(MODULE, "before", tmp_path), model_of(MODULE.replace(*change), "after", tmp_path)
    assert fingerprint(before) != fingerprint(after)


def scaled(factor):
    def loss(outputs, targets):
        return factor * F.mse_loss(outputs, targets)

    return loss


class Weighted(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight))

    def forward(self, outputs, targets):
        return (self.weight * (outputs - targets) ** 2).mean()


def with_default(outputs, targets, power=2):
    return ((outputs - targets) ** power).mean()


class Callable:
    __slots__ = ("power",)

    def __init__(self, power):
        self.power = power

    def __call__(self, outputs, targets):
        return ((outputs - targets) ** self.power).mean()


LOSSES = {
    "an attribute": lambda x: nn.HuberLoss(delta=x),
    "a closure": scaled,
    "a buffer": Weighted,
    "a partial": lambda x: functools.partial(with_default, power=x),
    "a slot": Callable,
    "a method": lambda x: Callable(x).__call__,
    "a child": lambda x: nn.Sequential(nn.HuberLoss(delta=x)).__call__,
}


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_the_state_of_a_loss_counts(make):
    assert fingerprint(loss_fn=make(1.0)) == fingerprint(loss_fn=make(1.0))
    assert fingerprint(loss_fn=make(1.0)) != fingerprint(loss_fn=make(9.0))


def test_two_lambdas_on_one_line_differ():
    a, b = lambda outputs, targets: (outputs - targets).mean(), lambda outputs, targets: (outputs + targets).mean()
    assert fingerprint(loss_fn=a) != fingerprint(loss_fn=b)


def test_a_class_typed_into_an_interpreter_is_identified_by_its_byte_code():
    def typed(factor):
        names = {"__name__": "__main__"}
        text = f"class M:\n    'doc'\n    def __call__(self, o, t):\n        return {factor} * (o - t).mean()"
        exec(text, names)
        return names["M"]()

    assert fingerprint(loss_fn=typed(1)) == fingerprint(loss_fn=typed(1)) != fingerprint(loss_fn=typed(2))


@dataclass
class Shape:
    heads: int


@pytest.mark.parametrize(
    ("one", "other"),
    [(F.silu, F.gelu), (nn.GELU, nn.SiLU), (torch.relu, torch.tanh), (torch.float32, torch.float64),
     (Shape(1), Shape(2)), (lambda x: x, lambda x: 2 * x), (np.arange(3), np.arange(4))],
    ids=["function", "class", "function in C", "dtype", "dataclass", "lambda", "array"],
)  # fmt: skip
def test_arguments_count_and_their_addresses_do_not(one, other):
    assert fingerprint(model_kwargs={"act": one}) == fingerprint(model_kwargs={"act": one})
    assert fingerprint(model_kwargs={"act": one}) != fingerprint(model_kwargs={"act": other})


def test_other_processes_find_the_same(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    code = textwrap.dedent("""
        import torch
        from mine import Model
        from torch.nn import functional as F
        from flops_fit.data import as_source
        from flops_fit.examples.gpt_stdlib.model import GPT, cross_entropy
        from flops_fit.tasks import make_task
        class Noisy:
            def __init__(self): self.x = list(range(10))
            def __len__(self): return 10
            def __getitem__(self, i): return torch.rand(3) + i, torch.zeros(3)
        own = {"act": F.silu, "names": {"a", "b", "c"}, "f": lambda x: x in {"p", "q", "r"}, "o": object()}
        print(make_task(Model, "width", own, loss_fn=F.mse_loss, train_data=as_source(Noisy())).fingerprint)
        print(make_task(GPT, "d_model", loss_fn=cross_entropy).fingerprint)
    """)
    found = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(tmp_path)},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert found[0] == found[1]
    assert len(set(found[0].split())) == 2


class Augmented:
    """Adds noise at each read."""

    def __init__(self, items, own_generator=False, strength=1.0):
        self.items, self.strength = items, strength
        self.rng = np.random.default_rng() if own_generator else None

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        noise = torch.rand(3) if self.rng is None else torch.from_numpy(self.rng.random(3))
        return self.items[i] + self.strength * noise, torch.zeros(3)


@pytest.mark.parametrize("own_generator", [False, True])
def test_augmented_data_are_identified_by_their_raw_items(own_generator):
    def of(items, **options):
        return fingerprint(data=as_source(Augmented(items, own_generator, **options)))

    items = torch.arange(30.0).view(10, 3)
    assert of(items) == of(items.clone())
    assert of(items) != of(items + 1)
    assert of(items) != of(items, strength=2.0)


def test_a_subset_and_a_wrapper_of_augmented_data_are_reached_through():
    items = torch.arange(30.0).view(10, 3)
    subsets = [as_source(Subset(Augmented(x, own_generator=True), [4, 2])) for x in (items, items.clone(), items + 1)]
    one, again, other = (fingerprint(data=s) for s in subsets)
    assert one == again != other


def test_a_hugging_face_transform_is_left_out():
    datasets = pytest.importorskip("datasets")

    def of(values):
        rows = datasets.Dataset.from_dict({"x": values})
        rows.set_transform(lambda batch: {"x": [torch.rand(2) + x for x in batch["x"]]})
        return as_source(rows).fingerprint

    assert of([1.0, 2.0]) == of([1.0, 2.0]) != of([1.0, 3.0])


def test_the_collation_counts():
    data = TensorDataset(torch.zeros(4, 3), torch.zeros(4, 3))

    def of(factor):
        return fingerprint(data=as_source(DataLoader(data, collate_fn=lambda s: (factor * s[0][0], s[0][1]))))

    assert of(1) == of(1) != of(2)


def test_a_stated_fingerprint_is_taken_as_it_is():
    assert fingerprint(fingerprint="my-data-v3") == "my-data-v3"
    with pytest.raises(ContractError, match="expected a text"):
        fingerprint(fingerprint=" ")


def test_what_a_model_keeps_between_calls_does_not_change_it(tmp_path):
    model_cls = model_of(MODULE.replace("SLOPE = 0.1", "SLOPE = 0.1\nCACHE = []").replace(
        "# Comment.", "CACHE.append(1)"), "caching", tmp_path)  # fmt: skip
    task = make_task(model_cls, "width")
    before = make_task(model_cls, "width").fingerprint
    model_cls(2)(torch.zeros(2))
    assert task.fingerprint == before
