"""A file is there completely or not at all."""

from __future__ import annotations

import pytest

from medical.files.atomic import written_whole


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.nii.gz"
    with written_whole(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_there_stays_when_writing_fails(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"old")

    def fail():
        with written_whole(path, overwrite=True) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_existing_files_folders_and_missing_folders(tmp_path):
    (tmp_path / "a.h5").touch()
    for path, error, message in (
        (tmp_path / "a.h5", FileExistsError, "overwrite=True"),
        (tmp_path, FileExistsError, "is a folder"),
        (tmp_path / "none" / "a.h5", FileNotFoundError, "there is no folder"),
    ):
        with pytest.raises(error, match=message), written_whole(path):
            pass
