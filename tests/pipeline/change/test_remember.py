"""What is remembered: which rows that makes, what is refused, and who else may write meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from banks import held
from killed import GEESE
from works import ARTICLES, Works, jsonl

from model.refusal import Refusal
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.commit import commit
from pipeline.bank.forget import forget
from pipeline.bank.presence import JOBS, BusyError, Presence
from pipeline.bank.problems import first_problems
from pipeline.bank.recall import recall
from pipeline.bank.unit_file import REMEMBERED, unit_of
from pipeline.bank.upkeep import drop
from pipeline.change.given import Columns, documents_given, documents_of_files
from pipeline.change.remember import remember

OF_A_WRITER = {schema.UNIT, schema.SOURCE, schema.ENCODED_AT}  # columns that say who wrote a row, from what, and when


@pytest.fixture
def bank(articles, tmp_path):
    return Bank.open(shutil.copytree(articles, tmp_path / "bank"))


@pytest.fixture
def add(codec):
    """add(bank, text or records, doc_id=, update=, **columns)."""

    def run(bank, given, *, update=False, doc_id=None, **columns):
        documents = documents_given(given, Columns(bank.metadata_fields), columns, doc_id=doc_id)
        return remember(bank, lambda: codec, documents, update=update)

    return run


def text(bank, codec, doc_id):
    rows = recall((batch for batch in bank.rows() if batch.num_rows), codec)
    found = sorted((row for row in rows if row.doc_id == doc_id), key=lambda row: row.position)
    assert all(row.exact for row in found)
    return "".join(row.text for row in found)


def table(bank):
    return pa.Table.from_batches(bank.rows(), bank.schema).sort_by([("doc_id", "ascending"), ("position", "ascending")])


def test_a_remembered_row_is_the_row_an_encode_job_makes(bank, codec, add, tmp_path, tiny_codec_folder):
    empty = Works(tmp_path / "other", tiny_codec_folder, jsonl(tmp_path / "other.jsonl", ARTICLES)).bank
    done = add(empty, [{"doc_id": doc_id, "text": text} for doc_id, text in ARTICLES.items()])
    assert (done.new, done.chunks) == (len(ARTICLES), bank.count())
    columns = [name for name in bank.schema.names if name not in OF_A_WRITER]
    assert table(empty).select(columns).equals(table(bank).select(columns))
    assert first_problems(empty) == []


def test_the_same_text_twice_is_one_document_and_no_second_commit(bank, codec, add):
    first = add(bank, GEESE)
    assert first.doc_ids == (documents_given(GEESE, Columns(()), {})[0].doc_hash,)
    again = add(bank, [GEESE, GEESE])
    assert (again.new, again.held, again.version) == (0, 1, first.version)
    assert add(bank, ARTICLES["fox"], doc_id="fox").version == first.version  # an encode job brought it


def test_an_id_with_another_text_is_refused_and_nothing_is_left(bank, add):
    before = bank.version, sorted(os.listdir(bank.folder.uri)), held(bank)
    with pytest.raises(Refusal, match="has the document 'fox' with another text: nothing was remembered"):
        add(bank, [{"doc_id": "new", "text": GEESE}, {"doc_id": "fox", "text": GEESE}])
    assert (Bank.open(bank.folder.uri).version, sorted(os.listdir(bank.folder.uri)), held(bank)) == before


def test_an_update_takes_the_place_of_the_old_rows_in_one_commit(bank, codec, add):
    before = bank.version
    done = add(bank, GEESE, doc_id="fox", update=True)
    assert (done.replaced, done.version) == (1, before + 1)
    assert text(bank, codec, "fox") == GEESE and held(bank)["fox"] == 2
    assert set(held(bank)) == set(ARTICLES) and first_problems(bank) == []


def test_columns_are_typed_carried_on_and_refused_by_name(codec, add, works):
    bank = works({"a": "One."}, metadata={"year": [1999]}).bank
    add(bank, "Two.", doc_id="b", year=2001)
    add(bank, "Two and a half.", doc_id="b", update=True)
    assert table(bank).column("year").to_pylist() == [2001]
    for wrong, said in (({"year": "soon"}, "year is int64, and 'soon' is none"), ({"month": 1}, "it has year")):
        with pytest.raises(Refusal, match=said):
            add(bank, "Three.", doc_id="c", **wrong)
    with pytest.raises(Refusal, match="'b' with other columns"):
        add(bank, "Two and a half.", doc_id="b", year=2002)


def test_what_is_no_document_refuses_all_of_them(add, bank):
    for given, said in (
        (["Fine.", "  "], "document 2: text is empty or only white space"),
        ([{"doc_id": "a", "text": "x"}, {"doc_id": "a", "text": "y"}], "'a' is given twice, with two texts"),
        ([{"body": "x"}], "document 1 has no text"),
    ):
        with pytest.raises(Refusal, match=said):
            add(bank, given)
    assert held(bank).keys() == ARTICLES.keys()


def test_files_of_any_format_of_a_corpus_are_remembered_together(codec, works, tmp_path):
    bank = works({"a": "One."}, metadata={"topic": ["x"]}).bank
    jsonl(tmp_path / "lines.jsonl", {"j": GEESE}, topic=["birds"])
    (tmp_path / "note.md").write_text("# Milk\n")
    pq.write_table(pa.table({"id": ["p"], "text": ["Bread."], "topic": ["food"]}), tmp_path / "rows.parquet")
    paths = [str(tmp_path / name) for name in ("lines.jsonl", "note.md", "rows.parquet")]
    done = remember(bank, lambda: codec, documents_of_files(paths, Columns(bank.metadata_fields), {"topic": "rest"}))
    assert done.doc_ids == ("j", "note.md", "p")
    topics = dict(zip(*table(bank).select(["doc_id", "topic"]).to_pydict().values(), strict=True))
    assert topics == {"j": "birds", "note.md": "rest", "p": "food"}
    (tmp_path / "lines.jsonl").write_text('{"id": "k", "text": ""}\n')
    with pytest.raises(Refusal, match=r"lines.jsonl:1: text is empty .* Nothing was remembered"):
        documents_of_files(paths[:1], Columns(()), {})


def test_two_writers_in_turn_and_at_once_lose_nothing_and_double_nothing(bank, codec, tiny_codec_folder, add):
    banks = [bank, Bank.open(bank.folder.uri)]
    for number in range(6):
        add(banks[number % 2], f"In turn, number {number}.", doc_id=f"turn-{number}")
    start, lock = threading.Barrier(2), threading.Lock()

    def write(mine, name):
        start.wait()
        for number in range(6):
            with lock:  # the codec is not for two threads at once; the commits race all the same
                documents = documents_given(f"{name} {number}", Columns(()), {}, doc_id=f"{name}-{number}")
            remember(mine, _locked(codec, lock), documents)

    threads = [threading.Thread(target=write, args=each) for each in zip(banks, ("left", "right"), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {f"{name}-{number}" for name in ("turn", "left", "right") for number in range(6)}
    assert {doc_id: rows for doc_id, rows in held(bank).items() if doc_id in names} == dict.fromkeys(names, 1)
    assert first_problems(Bank.open(bank.folder.uri)) == []


def _locked(codec, lock):
    """The codec, for one thread at a time."""

    class Locked:
        def __getattr__(self, name):
            return getattr(codec, name)

        def memorise(self, *arguments, **options):
            with lock:
                return codec.memorise(*arguments, **options)

    return Locked


def test_an_encode_that_was_planned_before_and_commits_after_doubles_nothing(works, codec, add):
    job = works(ARTICLES)
    made = job.encode()
    other = Bank.open(job.bank.folder.uri)
    add(other, GEESE, doc_id="geese")
    add(other, ARTICLES["tokyo"], doc_id="tokyo")
    commit(job.bank, [made.receipt])
    assert held(job.bank).keys() == {*ARTICLES, "geese"}
    assert text(job.bank, codec, "tokyo") == ARTICLES["tokyo"] and text(job.bank, codec, "geese") == GEESE
    assert first_problems(job.bank) == [] and job.bank.count() == sum(held(job.bank).values())


def test_what_was_forgotten_comes_back_by_being_remembered_and_stays(bank, add):
    forget(bank, ["fox"])
    assert "fox" not in held(bank) and bank.forgotten().among(["fox"])
    assert add(bank, ARTICLES["fox"], doc_id="fox").new == 1
    assert "fox" in held(bank) and not Bank.open(bank.folder.uri).forgotten().among(["fox"])
    assert first_problems(Bank.open(bank.folder.uri)) == []


def test_rows_keep_text_and_words_where_the_bank_s_do(works, codec, add):
    pytest.importorskip("Stemmer")
    job = works({"a": "One text."}, keep_text=True, keep_words=True)
    commit(job.bank, [job.encode().receipt])
    add(job.bank, GEESE, doc_id="geese")
    assert "".join(table(job.bank).column("text").to_pylist()) == "One text." + GEESE
    assert table(job.bank).column("stems").null_count == 0


def test_many_small_commits_leave_few_files_and_an_encode_job_s_as_they_are(bank, codec, add):
    of_jobs = bank.files()
    for number in range(40):
        add(bank, f"Note {number}.", doc_id=f"note-{number}")
    files = Bank.open(bank.folder.uri).files()
    assert set(of_jobs) <= set(files) and len(files) - len(of_jobs) == 2 + 8  # two of 16 rows
    assert {unit_of(name) for name in set(files) - set(of_jobs)} == {REMEMBERED}
    assert len(held(bank)) == 40 + len(ARTICLES) and first_problems(bank) == []


def test_nobody_remembers_beside_a_tend_and_no_record_is_left(bank, add):
    with Presence(bank.folder, "tend") as tending:
        tending.begin(state="tending")
        with pytest.raises(BusyError, match="`nextmem tend` is at work"):
            add(bank, GEESE)
    add(bank, GEESE)
    records = [json.loads(bank.folder.read(name)) for name in bank.folder.names(JOBS)]
    assert [record["kind"] for record in records] == ["tend"]


def test_a_damaged_file_of_remembered_rows_takes_no_other_along(bank, add):
    for number in range(3):
        add(bank, f"Note {number}.", doc_id=f"note-{number}")
    damaged = next(name for name in bank.files() if unit_of(name) == REMEMBERED)
    assert drop(bank, [damaged]) == [damaged]
    assert sum(doc_id.startswith("note") for doc_id in held(bank)) == 2
