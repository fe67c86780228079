"""Files are replaced whole, and nothing else is."""

import os
from pathlib import Path

import pytest

from flops_fit.errors import StoreError
from flops_fit.files import replace_file


@pytest.mark.parametrize("kind", ["link", "folder", "device"])
def test_what_is_no_plain_file_is_not_replaced(tmp_path, kind):
    path = tmp_path / "report.html"
    if kind == "link":
        (tmp_path / "target").write_text("mine")
        path.symlink_to(tmp_path / "target")
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path(os.devnull)
    with pytest.raises(StoreError, match="no plain file"):
        replace_file(path, b"new")
    assert kind != "link" or (path.is_symlink() and path.read_text() == "mine")
    assert kind != "device" or path.is_char_device()


def test_an_old_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "folder" / "fit.json"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert [(p.name, p.read_bytes()) for p in path.parent.iterdir()] == [("fit.json", b"new")]
