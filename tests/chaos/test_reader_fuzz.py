"""Damaged files of every kind that the command reads; `make chaos` reads 200,000."""

import pytest
from fuzz import EDITS, HARMLESS, KINDS, SNIPPETS, WEIGHTED_KINDS, _valid, damaged, read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EDIT = st.tuples(
    st.sampled_from(EDITS),
    st.floats(0, 1),
    st.integers(0, 30),
    st.sampled_from(HARMLESS) | st.sampled_from(SNIPPETS) | st.binary(max_size=4),
)


@pytest.mark.parametrize("kind", [*KINDS, "config.yaml"])
def test_an_undamaged_file_of_each_kind_is_read(tmp_path, kind):
    (tmp_path / kind).write_bytes(_valid()[kind])
    assert read(kind, tmp_path / kind) == "read"


def test_a_parquet_column_whose_name_is_no_text_is_refused(tmp_path):
    (tmp_path / "runs.parquet").write_bytes(_valid()["runs.parquet"].replace(b"seed", b"s\xb2\xbad"))
    assert read("runs.parquet", tmp_path / "runs.parquet") == "refused"


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(WEIGHTED_KINDS), st.lists(EDIT, min_size=1, max_size=3))
def test_whatever_is_damaged_a_typed_refusal_or_sound_numbers_come_out(tmp_path, kind, edits):
    path = tmp_path / kind
    path.write_bytes(damaged(kind, edits))
    read(kind, path)
