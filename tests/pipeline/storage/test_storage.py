"""Files are whole or absent, listings are ordered, and local paths and URIs behave alike."""

import errno
import os
import resource
from pathlib import Path

import pytest

from pipeline.storage import storage


def names(uri):
    return [entry.uri for entry in storage.listing(uri)]


def test_a_written_file_is_whole_and_leaves_no_temporary_name(tmp_path):
    storage.write_whole(f"{tmp_path}/new/folder/a.bin", b"one")
    storage.write_whole(f"{tmp_path}/new/folder/a.bin", b"two")

    assert storage.read_bytes(f"{tmp_path}/new/folder/a.bin") == b"two"
    assert os.listdir(tmp_path / "new/folder") == ["a.bin"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    with pytest.raises(RuntimeError), storage.whole_file(str(target)) as file:
        file.write(b"half of the new")
        raise RuntimeError

    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_full_disk_is_an_oserror_with_its_number_and_path(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # stands in for the full disk: the same write() fails
    try:
        with pytest.raises(OSError) as caught:
            storage.write_whole(f"{tmp_path}/a.bin", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, f"{tmp_path}/a.bin")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_a_file_is_an_oserror_with_its_number_and_path(tmp_path):
    (tmp_path / "file").write_text("x")

    with pytest.raises(OSError) as caught:
        storage.write_whole(f"{tmp_path}/file/a.bin", b"x")

    assert caught.value.errno in (errno.EEXIST, errno.ENOTDIR)
    assert caught.value.filename == f"{tmp_path}/file"


def test_a_listing_is_sorted_by_full_path(tmp_path):
    paths = ["a/z.txt", "a.txt", "a/b/c.txt", "b.txt", "a-b/x.txt"]
    for path in paths:
        storage.write_whole(f"{tmp_path}/{path}", b"x")

    assert names(str(tmp_path)) == sorted(f"{tmp_path}/{path}" for path in paths)


def test_a_listing_ends_where_links_go_in_a_circle(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").write_text("x")
    (tmp_path / "a/loop").symlink_to(tmp_path, target_is_directory=True)

    assert names(str(tmp_path)) == [f"{tmp_path}/a/x.txt"]


def test_a_pipe_is_not_listed(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")

    assert names(str(tmp_path)) == []


def test_entries_say_size_and_time(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"12345")

    (entry,) = storage.entries(str(tmp_path))

    assert (entry.name, entry.size, entry.is_folder) == ("a.txt", 5, False)
    assert entry.mtime_ns == os.stat(tmp_path / "a.txt").st_mtime_ns


def test_a_uri_takes_the_same_verbs_as_a_path():
    """`mock:` is pyarrow's own filesystem in memory."""
    storage.write_whole("mock:///bucket/folder/b.txt", b"bb")
    storage.write_whole("mock:///bucket/folder/a/x.txt", b"x\ny\n")

    assert names("mock:///bucket/folder") == ["mock:///bucket/folder/a/x.txt", "mock:///bucket/folder/b.txt"]
    assert storage.read_bytes("mock:///bucket/folder/b.txt") == b"bb"
    assert storage.stat("mock:///bucket/folder/b.txt").size == 2
    with storage.open_input("mock:///bucket/folder/a/x.txt") as stream:
        stream.seek(2)
        assert stream.readline() == b"y\n"
    storage.delete("mock:///bucket/folder/b.txt")
    storage.delete("mock:///bucket/folder/b.txt")
    assert not storage.exists("mock:///bucket/folder/b.txt")


def test_a_uri_named_gz_holds_the_bytes_that_were_written():
    storage.write_whole("mock:///bucket/a.gz", b"as they are")

    assert storage.read_bytes("mock:///bucket/a.gz") == b"as they are"


def test_a_uri_is_not_written_when_its_block_fails():
    with pytest.raises(RuntimeError), storage.whole_file("mock:///bucket/half.bin") as file:
        file.write(b"half")
        raise RuntimeError

    assert not storage.exists("mock:///bucket/half.bin")


def test_a_uris_query_stays_at_its_end():
    uri = "s3://bucket/bank?endpoint_override=localhost:9000"

    assert storage.join(uri, "data", "x") == "s3://bucket/bank/data/x?endpoint_override=localhost:9000"
    assert storage.parent(storage.join(uri, "data")) == uri
    assert storage.join("/", "a") == "/a"


def test_paths_become_absolute_and_file_uris_become_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert storage.absolute("a/b") == f"{tmp_path}/a/b"
    assert storage.absolute(Path(tmp_path, "x y").as_uri()) == f"{tmp_path}/x y"
    assert storage.absolute("s3://bucket/x/") == "s3://bucket/x"


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match=r"nope://bucket cannot be opened.*local path or a URI"):
        storage.resolve("nope://bucket/x")
