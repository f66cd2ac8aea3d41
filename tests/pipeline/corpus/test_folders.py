"""A folder of mixed things: what is read, what is passed over and counted, what is named as of no use."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os

import pytest
from banks import IDENTITY

from pipeline.bank.bank import Bank
from pipeline.corpus.corpus import Corpus, corpus_files
from pipeline.corpus.documents import ColumnRoles, Document, Rejected
from pipeline.plan.plan import plan_corpus
from pipeline.plan.units import read_unit

LINE = '{"id": "%s", "text": "a text"}\n'
PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.fixture
def docs(tmp_path):
    (tmp_path / "docs").mkdir()
    return tmp_path / "docs"


def planned(docs, **options):
    return plan_corpus([str(docs)], ColumnRoles(), unit_chunks=99, folder=str(docs.parent / "plans"), **options)


def read(docs, **options):
    plan = planned(docs, **options)
    return [item for unit in plan.units() for item in read_unit(unit, plan.columns)]


def ids(items):
    return sorted(item.doc_id for item in items if isinstance(item, Document))


def one_rejected(docs):
    (rejected,) = [item for item in read(docs) if isinstance(item, Rejected)]
    return rejected


def test_json_that_holds_lines_is_read_packed_or_not(docs):
    (docs / "a.json").write_text(LINE % "a" + LINE % "b")
    (docs / "one.json").write_text((LINE % "c").strip())
    for ending, pack in PACKERS.items():
        (docs / f"d.json{ending}").write_bytes(pack((LINE % ending).encode()))
    assert ids(read(docs)) == [".bz2", ".gz", ".xz", "a", "b", "c"]


@pytest.mark.parametrize("ending", [".bz2", ".xz"])
def test_lines_of_several_packed_members_are_read_and_a_torn_one_is_one_rejection(docs, ending):
    packed = PACKERS[ending]
    (docs / f"a.jsonl{ending}").write_bytes(packed((LINE % "a").encode()) + packed((LINE % "b").encode()))
    (docs / f"t.jsonl{ending}").write_bytes(packed((LINE % "c" * 50).encode())[:-9])
    (docs / f"u.jsonl{ending}").write_bytes(b"this was never packed")
    items = read(docs)
    assert ids(items)[:2] == ["a", "b"]
    torn = {item.source.partition(":")[0] for item in items if isinstance(item, Rejected) and "torn" in item.reason}
    assert torn == {f"docs/t.jsonl{ending}", f"docs/u.jsonl{ending}"}


def test_what_is_passed_over_is_counted_by_its_ending(docs):
    for name in ("rows.csv", "more.CSV", "page.html", "rows.csv.gz", "Makefile", ".hidden.txt"):
        (docs / name).write_text("x")
    (docs / "package.json").write_text(json.dumps({"name": "x", "files": []}, indent=2))
    (docs / "dataset_info.json").write_text(LINE % "no document")
    for folder in (".git", "_temporary", "sub"):
        (docs / folder).mkdir()
        (docs / folder / "t.txt").write_text("a text")
    assert planned(docs).counts.passed_over == {
        ".csv": 2,
        ".json": 2,
        "folder": 2,
        "hidden": 1,
        "no ending": 1,
        ".gz": 1,
        ".html": 1,
    }
    assert ids(read(docs)) == ["docs/sub/t.txt"]


def test_a_bank_inside_the_corpus_is_no_part_of_it(docs):
    (docs / "a.txt").write_text("a text")
    (docs / "codec").mkdir()
    Bank.create(docs / "bank", IDENTITY, codec=docs / "codec")
    (docs / "bank/_codec").mkdir(exist_ok=True)
    (docs / "bank/part-1.parquet").write_text("rows")
    assert planned(docs).counts.passed_over == {"folder": 1} and ids(read(docs)) == ["docs/a.txt"]


def test_a_json_file_that_is_named_is_read_whatever_it_holds(docs):
    (docs / "settings.json").write_text(json.dumps({"name": "x"}, indent=2))
    (docs / "a.txt").write_text("a text")
    (file,) = corpus_files([str(docs / "settings.json")])
    assert file.format == "jsonl"


ARRAY = [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (json.dumps(ARRAY, indent=2), "this is a JSON array"),
        (json.dumps(ARRAY), "this is a JSON array"),
        ("[" + ",\n".join(map(json.dumps, ARRAY)) + "]", "this is a JSON array"),
        ("\ufeff[\n" + ",\n".join(map(json.dumps, ARRAY)) + "\n]\n", "this is a JSON array"),
    ],
)
def test_a_json_array_is_said_once(docs, name, content, says):
    packed = content.encode()
    (docs / name).write_bytes(gzip.compress(packed) if name.endswith(".gz") else packed)
    rejected = one_rejected(docs)
    assert (rejected.source, rejected.reason.startswith(says)) == (f"docs/{name}", True)


def test_one_object_over_several_lines_is_said_once(docs):
    (docs / "a.jsonl").write_text(json.dumps(ARRAY[0], indent=2))
    assert one_rejected(docs).reason.startswith("this is a JSON object over several lines")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_utf_16_is_said_once(docs, name, encoding):
    (docs / name).write_bytes((LINE % "a" * 20).encode(encoding))
    assert one_rejected(docs).reason.startswith(f"this is {encoding[:6].upper()}: wanted UTF-8")


@pytest.mark.parametrize("first", ["[", "{", '{"id": "t",', "[1, 2]", "null"])
def test_a_torn_first_line_costs_no_other_line(docs, first):
    (docs / "a.jsonl").write_text(first + "\n" + LINE % "a" + LINE % "b")
    assert ids(read(docs)) == ["a", "b"]


@pytest.mark.parametrize("target", ["gone/b.jsonl", "b.jsonl", "a.jsonl/x"])
def test_a_link_whose_target_is_gone_is_named_and_the_rest_is_read(docs, target):
    (docs / "a.jsonl").write_text(LINE % "a")
    (docs / "b.jsonl").symlink_to(target)
    (docs / ".#lock.txt").symlink_to("user@host.1234")
    items = read(docs)
    assert ids(items) == ["a"]
    (rejected,) = [item for item in items if isinstance(item, Rejected)]
    assert rejected.source == "docs/b.jsonl" and rejected.reason == f"a link, and {target}, where it leads to, is gone"
    assert planned(docs).counts.passed_over == {"hidden": 1}

    (docs / "b.jsonl").unlink()
    (docs / "b.jsonl").write_text(LINE % "b")
    assert ids(read(docs)) == ["a", "b"]


def test_a_link_of_no_ending_may_have_been_a_folder_and_is_named(docs):
    (docs / "a.jsonl").write_text(LINE % "a")
    (docs / "more").symlink_to("gone")
    assert one_rejected(docs).source == "docs/more"


def test_a_link_that_was_given_and_leads_nowhere_is_refused(docs):
    (docs / "b.jsonl").symlink_to("gone/b.jsonl")
    with pytest.raises(FileNotFoundError, match=r"b.jsonl is a link, and gone/b.jsonl, where it leads to, is gone"):
        list(Corpus((str(docs / "b.jsonl"),)))
    with pytest.raises(FileNotFoundError, match="found no file and 1 links whose targets are gone"):
        list(Corpus((str(docs),)))


def corrected(path, text, then):
    """A text of as many letters, in a file whose time is set back."""
    path.write_text(text)
    os.utime(path, ns=(then, then))


def test_a_file_corrected_at_the_same_size_and_time_is_read_again(docs):
    then = 1_577_836_800_000_000_000
    corrected(docs / "d.txt", "on a Monday", then)
    (old,) = read(docs)
    corrected(docs / "d.txt", "on a Friday", then)
    (new,) = read(docs)
    assert (old.text, new.text) == ("on a Monday", "on a Friday")


def test_by_content_a_file_is_its_bytes_whatever_its_times_say(docs):
    (docs / "d.txt").write_text("on a Monday")
    first = planned(docs, by_content=True)
    os.utime(docs / "d.txt", ns=(1, 1))
    assert planned(docs, by_content=True).uri == first.uri != planned(docs).uri
    (docs / "d.txt").write_text("on a Friday")
    os.utime(docs / "d.txt", ns=(1, 1))
    assert planned(docs, by_content=True).uri != first.uri


def test_a_copy_with_new_times_plans_the_same_units(docs):
    (docs / "d.jsonl").write_text(LINE % "a" + LINE % "b")
    before = planned(docs)
    content = (docs / "d.jsonl").read_bytes()
    (docs / "d.jsonl").unlink()
    (docs / "d.jsonl").write_bytes(content)
    after = planned(docs)
    assert after.uri != before.uri and list(after.unit_ids()) == list(before.unit_ids())
    assert after.against([], frozenset(before.unit_ids())).counts.units == 0
