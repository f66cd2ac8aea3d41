"""A path is a path: what a URI would read in it changes nothing, or is refused before anything is written."""

from __future__ import annotations

import shutil

import pytest
from banks import IDENTITY, held, receipt

from pipeline.bank.bank import Bank
from pipeline.bank.commit import commit
from pipeline.bank.forget import forget
from pipeline.bank.info import info
from pipeline.bank.problems import first_problems
from pipeline.bank.upkeep import checkpoint, compact, drop, remove, unneeded
from pipeline.corpus.corpus import corpus_files
from pipeline.export.export import export
from pipeline.storage import storage
from pipeline.storage.table_uri import table_uri

TAKEN = ["a b", "a#b", "a?b", "a+b", "100%", "a%zz", "ünï-漢字", "{x}", "c:d", "s3:x", "a*b", "a&b=c", "@x"]
REFUSED = ["a%20b", "%2e%2E", "a%2Fb", "back\\slash", "tab\t", "line\n"]
REFUSED_ON_A_DISK = ["[x]", "a^b", "a|b"]


def work_through(uri):
    """Every verb of a bank, on one place."""
    bank = Bank.create(uri, IDENTITY)
    commit(bank, [receipt(bank, "u1", {"a": 2, "b": 1})])
    commit(bank, [receipt(bank, "u2", {"c": 1})])
    forget(bank, ["b"])
    assert compact(bank) == 2 and first_problems(Bank.open(uri)) == [] and held(bank) == {"a": 2, "c": 1}
    checkpoint(bank)
    remove(bank, unneeded(bank, orphan_hours=0, version_hours=0))
    assert Bank.open(uri).finished_units() == {"u1", "u2"} and info(Bank.open(uri)).chunks == 3
    return bank


@pytest.mark.parametrize("name", TAKEN)
def test_a_bank_lives_under_any_other_name(tmp_path, name):
    bank = work_through(tmp_path / name / "bank")
    assert storage.exists(str(tmp_path / name / "bank/_delta_log/00000000000000000000.json"))

    export(bank, tmp_path / name / "out")
    moved = shutil.move(tmp_path / name / "bank", tmp_path / name / name)

    assert held(Bank.open(moved)) == {"a": 2, "c": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_ON_A_DISK])
def test_a_name_that_delta_rs_reads_as_another_is_refused_and_leaves_nothing(tmp_path, name):
    for use in (lambda uri: Bank.create(uri, IDENTITY), Bank.open):
        with pytest.raises(ValueError, match=r"cannot be a memory bank's place.*Rename that folder") as caught:
            use(tmp_path / name / "bank")
        assert "\n" not in str(caught.value).replace(name, "")

    assert list(tmp_path.iterdir()) == []


def test_a_bank_moved_beside_its_neighbour_never_reads_or_repairs_the_neighbour(tmp_path):
    work_through(tmp_path / "w q")
    other = work_through(tmp_path / "other")
    shutil.move(tmp_path / "other", tmp_path / "w%20q")
    before = sorted((tmp_path / "w q/_delta_log").iterdir())

    with pytest.raises(ValueError, match="w%20q cannot be a memory bank's place: its path holds '%20'"):
        drop(Bank.open(tmp_path / "w%20q"), other.files())

    assert sorted((tmp_path / "w q/_delta_log").iterdir()) == before


def test_a_link_with_a_good_name_to_a_bad_one_is_refused(tmp_path):
    (tmp_path / "a%20b").mkdir()
    (tmp_path / "good").symlink_to(tmp_path / "a%20b")

    with pytest.raises(ValueError, match="good cannot be"):
        Bank.create(tmp_path / "good", IDENTITY)


@pytest.mark.parametrize("name", [*TAKEN, *REFUSED, *REFUSED_ON_A_DISK])
def test_a_corpus_lies_under_any_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / f"{name}.txt").write_text("a text")

    for argument in (folder, folder / f"{name}.txt", folder / "*.txt", tmp_path / "**/*.txt"):
        (file,) = corpus_files([str(argument)])
        assert storage.read_bytes(file.uri) == b"a text"


def test_a_glob_below_a_folder_with_brackets_is_not_a_glob_of_the_folder(tmp_path, monkeypatch):
    for folder in ("[ab]", "a"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.txt").write_text(folder)
    monkeypatch.chdir(tmp_path / "[ab]")

    for argument in (f"{tmp_path}/[ab]/*.txt", "*.txt", "./t.[t]xt"):
        assert [storage.read_bytes(file.uri) for file in corpus_files([argument])] == [b"[ab]"]
    assert [storage.read_bytes(file.uri) for file in corpus_files([f"{tmp_path}/[a]/*.txt"])] == [b"a"]


@pytest.mark.parametrize("uri", ["file:///tmp/a#b", "file:///tmp/a?b", "file:///tmp/a?", "file://host/tmp/a"])
def test_a_file_uri_that_says_more_than_a_path_is_refused(uri):
    with pytest.raises(ValueError, match="is no local path: write file:///path, with # as %23"):
        storage.absolute(uri)


def test_a_file_uri_is_unquoted_once():
    assert storage.absolute("file:///tmp/a%2520b%23c") == "/tmp/a%20b#c"


@pytest.mark.store
@pytest.mark.parametrize("name", [name for name in [*TAKEN, *REFUSED_ON_A_DISK] if "?" not in name])
def test_a_key_of_s3_is_a_key(object_store, place, name):
    work_through(f"s3://{place}/{name}/bank")
    assert {key.partition("/bank/")[0] for key in object_store.names(place)} == {name}


@pytest.mark.store
@pytest.mark.parametrize("name", [*REFUSED[:4], "a?b"])
def test_a_key_that_delta_rs_reads_as_another_is_refused_and_leaves_nothing(object_store, place, name):
    for use in (lambda uri: Bank.create(uri, IDENTITY), Bank.open):
        with pytest.raises(ValueError, match="memory bank's"):
            use(f"s3://{place}/{name}/bank")

    assert object_store.names(place) == []


def test_what_delta_rs_is_told_of_s3_is_quoted():
    assert table_uri("s3://b/a#b/ü [x]") == "s3://b/a%23b/%C3%BC%20%5Bx%5D"
