from dataclasses import dataclass, field
from typing import Literal

import pytest

from flops_fit.errors import ConfigError
from flops_fit.schema import build, build_record, canonical_json, to_plain


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    choice: Literal["a", "b"] = "a"
    limit: float | None = None


def test_a_nested_value_survives_the_round_trip():
    value = Outer(name="x", inner=Inner(rate=0.2, sizes=(1, 2)), choice="b", limit=3.0)
    assert build(Outer, to_plain(value)) == value


def test_an_integer_is_taken_for_a_float():
    assert build(Inner, {"rate": 1}).rate == 1.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "x", "inner": {"rte": 1}}, ["inner.rte", "'rate'"]),
        ({"name": "x", "inner": {"rate": "fast"}}, ["inner.rate", "'fast'", "float"]),
        ({"name": "x", "choice": "c"}, ["choice", "'c'", "a, b"]),
        ({"name": "x", "inner": {"sizes": 3}}, ["inner.sizes", "list"]),
        ({"name": "x", "limit": float("nan")}, ["limit", "finite"]),
        ({"name": True}, ["name", "True", "str"]),
        ({}, ["missing", "name"]),
    ],
)
def test_a_wrong_value_is_named_with_its_path_and_what_was_expected(values, words):
    with pytest.raises(ConfigError) as error:
        build(Outer, values)
    for word in words:
        assert word in str(error.value)


def test_a_nan_is_never_written():
    with pytest.raises(ValueError, match="finite"):
        to_plain({"x": float("nan")})


def test_canonical_json_does_not_depend_on_key_order():
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})


def test_a_record_may_hold_fields_that_are_not_known_at_any_depth():
    values = {"name": "x", "colour": "red", "inner": {"rate": 0.2, "shape": [1]}}
    assert build_record(Outer, values) == Outer(name="x", inner=Inner(rate=0.2))


@pytest.mark.parametrize("values", [{"name": 3}, {"colour": "red"}, {"name": "x", "inner": {"rate": "fast"}}])
def test_a_record_with_a_wrong_or_missing_field_is_refused(values):
    with pytest.raises(ConfigError):
        build_record(Outer, values)
