"""Files are replaced whole, and nothing else is."""

import errno
import os
from pathlib import Path

import pytest

from flops_fit.errors import StoreError
from flops_fit.files import publish_folder, replace_file


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


def test_of_two_processes_that_publish_one_folder_the_first_one_stays(tmp_path):
    path = tmp_path / "checkpoints" / "step-00000008"

    def second(aside):
        # The other process comes between this one's look and its rename.
        publish_folder(path, lambda first: (first / "state.json").write_text("first"))
        (aside / "state.json").write_text("second")

    assert publish_folder(path, second) is False
    assert (path / "state.json").read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_published_is_a_storage_error_and_leaves_nothing(tmp_path):
    def fill(aside):
        (aside / "state.json").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match="Free some space"):
        publish_folder(tmp_path / "step-00000008", fill)
    assert list(tmp_path.iterdir()) == []
