"""Only regular files are read, and nothing is written through a link or left half."""

import os
import socket

import pytest

from consilium.core.files import opened, opened_to_append, opened_to_fill, opened_to_lock, read_bytes, regular, replace


@pytest.fixture(params=["fifo", "socket", "device", "folder"])
def no_file(request, tmp_path):
    path = tmp_path / "it"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif request.param == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("read", [opened, regular, read_bytes])
def test_what_is_no_file_is_refused_at_once(no_file, read):
    with pytest.raises(OSError, match=r"not a file|directory|No such device") as caught:
        read(no_file)
    assert str(no_file) in str(caught.value)


def test_a_file_is_read_to_its_bound(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_bytes(tmp_path / "a", 4)


def test_a_link_is_replaced_and_not_followed(tmp_path):
    mine, precious = tmp_path / "report.html", tmp_path / "precious"
    precious.write_text("precious")
    mine.symlink_to(precious)
    (tmp_path / "report.html.draft").symlink_to(precious)
    replace(mine, b"page")
    assert precious.read_text() == "precious" and mine.read_bytes() == b"page" and not mine.is_symlink()


@pytest.mark.parametrize("write", [opened_to_append, opened_to_fill, opened_to_lock])
def test_a_link_is_not_opened_to_be_written(tmp_path, write):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "link").symlink_to(precious)
    with pytest.raises(OSError, match="it is a link"):
        write(tmp_path / "link")
    assert precious.read_text() == "precious"


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    replace(tmp_path / "page", b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("consilium.core.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace(tmp_path / "page", b"new" * 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["page"] and (tmp_path / "page").read_bytes() == b"old"
