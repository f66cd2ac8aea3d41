"""A plan depends on the input alone; what a bank holds is left out anew on every run; nothing is read twice or lost."""

import gzip
import io
import json
import os
import random
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.documents import ColumnRoles, Document, Rejected, document_hash
from pipeline.plan import packing, plan_file
from pipeline.plan.packing import BYTES_A_CHUNK, Packing
from pipeline.plan.plan import Plan, plan_corpus
from pipeline.plan.units import ChangedInputError, read_unit
from pipeline.storage import storage


@pytest.fixture
def plan(tmp_path):
    def make(*arguments, unit_chunks=4, columns=None):
        paths = [str(argument) for argument in arguments]
        return plan_corpus(paths, columns or ColumnRoles(), unit_chunks=unit_chunks, folder=str(tmp_path / "plans"))

    return make


def lines(path, *values, mode="w"):
    with open(path, mode) as file:
        file.writelines(json.dumps(value) + "\n" for value in values)
    return path


def numbered(path, count, mode="w", start=0):
    return lines(path, *[{"id": i, "text": f"text {i}"} for i in range(start, start + count)], mode=mode)


def read(plan, units):
    return [item for unit in units for item in read_unit(unit, plan.columns)]


def in_input_order(plan):
    by_id = {unit.unit_id: unit for unit in plan.units()}
    return [by_id[unit_id] for unit_id in plan.unit_ids()]


def held(plan, *unit_ids):
    items = read(plan, [unit for unit in plan.units() if not unit_ids or unit.unit_id in unit_ids])
    return [(item.doc_id, item.doc_hash) for item in items if isinstance(item, Document)]


# Units


def test_units_hold_every_document_once_in_input_order(tmp_path, plan):
    made = plan(numbered(tmp_path / "a.jsonl", 10))

    units = in_input_order(made)

    assert [unit.documents for unit in units] == [4, 4, 2]
    assert [item.doc_id for item in read(made, units)] == [str(i) for i in range(10)]
    assert (made.counts.documents, made.counts.units, made.counts.chunks, made.counts.bytes) == (10, 3, 10, 60)


def test_a_document_weighs_its_bytes_and_one_chunk_at_least(tmp_path, plan):
    texts = ["x" * BYTES_A_CHUNK, "x" * (BYTES_A_CHUNK + 1), "x", "é" * BYTES_A_CHUNK]
    made = plan(lines(tmp_path / "a.jsonl", *[{"text": text} for text in texts]), unit_chunks=100)

    (unit,) = made.units()

    assert unit.chunks == 1 + 2 + 1 + 2
    assert unit.bytes == 512 + 513 + 1 + 1024


def test_a_huge_document_is_a_unit_of_its_own(tmp_path, plan):
    small, huge = {"text": "small"}, {"text": "x" * 10 * BYTES_A_CHUNK}
    made = plan(lines(tmp_path / "a.jsonl", small, huge, {"text": "tiny"}))

    assert [(unit.documents, unit.chunks) for unit in in_input_order(made)] == [(1, 1), (1, 10), (1, 1)]


def test_longer_units_come_first(tmp_path, plan):
    sizes = [1, 9, 1, 40, 1]
    made = plan(lines(tmp_path / "a.jsonl", *[{"text": f"{i}" * n * BYTES_A_CHUNK} for i, n in enumerate(sizes)]))

    assert [unit.chunks for unit in made.units()][:2] == [40, 9]
    forwards, work = list(made.units()), made.against()
    assert list(work.units(backwards=True)) == forwards[::-1] and len(forwards) > 2


def test_many_small_files_share_a_unit(tmp_path, plan):
    for i in range(10):
        (tmp_path / f"{i}.txt").write_text(f"text {i}")

    made = plan(*sorted(tmp_path.glob("*.txt")))

    assert [len(unit.spans) for unit in in_input_order(made)] == [4, 4, 2]


def test_every_format_and_packing_reads_back_as_it_was_planned(tmp_path, plan):
    chance = random.Random(0)
    texts = [f"{i} " + "wörd " * chance.randrange(1, 400) for i in range(100)]
    content = b"".join(json.dumps({"text": text}).encode() + b"\n" * chance.randrange(1, 3) for text in texts)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jsonl").write_bytes(content)
    (tmp_path / "a/2.jsonl.gz").write_bytes(gzip.compress(content.replace(b'": "', b'": "gz ')))
    (tmp_path / "a/3.jsonl.zst").write_bytes(zstandard.compress(content.replace(b'": "', b'": "zst ')))
    pq.write_table(pa.table({"text": [f"pq {text}" for text in texts]}), tmp_path / "a/4.parquet", row_group_size=30)
    with pa.OSFile(str(tmp_path / "a/5.arrow"), "wb") as file, pa.ipc.new_file(file, pa.schema({"text": "str"})) as out:
        out.write_table(pa.table({"text": [f"arrow {text}" for text in texts]}), max_chunksize=33)

    made = plan(tmp_path / "a", unit_chunks=17)

    wanted = [f"{kind}{text}" for kind in ("", "gz ", "zst ", "pq ", "arrow ") for text in texts]
    assert [item.text for item in read(made, in_input_order(made))] == wanted
    assert made.counts.documents == 500 and made.counts.units > 60


def test_rejected_records_are_read_back_in_their_units(tmp_path, plan):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "1"}\n{bad\n{"text": ""}\n{"text": "\xff"}\n{"text": "5"}\n')

    made = plan(path, unit_chunks=2)

    items = read(made, in_input_order(made))
    assert [isinstance(item, Rejected) for item in items] == [False, True, True, True, False]
    assert (made.counts.documents, made.counts.rejected) == (2, 3)


def test_a_unit_whose_records_are_all_rejected_has_an_id(tmp_path, plan):
    (tmp_path / "a.jsonl").write_text("{bad\n" * 6)

    made = plan(tmp_path / "a.jsonl", unit_chunks=3)

    assert [(unit.documents, unit.rejected) for unit in made.units()] == [(0, 3), (0, 3)]
    assert len(set(made.unit_ids())) == 2


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst", ".parquet", ".txt.gz"])
def test_a_torn_file_reads_back_as_it_was_planned(tmp_path, plan, ending):
    content = b"".join(b'{"text": "%s"}\n' % os.urandom(500).hex().encode() for _ in range(1000))
    packed = zstandard.compress(content) if ending.endswith(".zst") else gzip.compress(content)
    (tmp_path / f"a{ending}").write_bytes(packed[: len(packed) // 2])

    made = plan(tmp_path / f"a{ending}", unit_chunks=50)

    items = read(made, in_input_order(made))
    assert [isinstance(item, Rejected) for item in items].count(True) == made.counts.rejected == 1
    assert isinstance(items[-1], Rejected)
    assert len(items) == made.counts.documents + 1


# Determinism and growth


def test_unit_ids_depend_on_the_documents_and_not_on_the_place(tmp_path, plan):
    for folder in ("x", "y"):
        (tmp_path / folder / "corpus").mkdir(parents=True)
        numbered(tmp_path / folder / "corpus/a.jsonl", 10)

    here, there = plan(tmp_path / "x/corpus"), plan(tmp_path / "y/corpus")

    assert here.uri != there.uri
    assert list(here.unit_ids()) == list(there.unit_ids())


def test_a_changed_document_changes_its_units_id_only(tmp_path, plan):
    before = list(plan(numbered(tmp_path / "a.jsonl", 12)).unit_ids())
    content = (tmp_path / "a.jsonl").read_text()
    (tmp_path / "a.jsonl").write_text(content.replace("text 5", "text five"))

    after = list(plan(tmp_path / "a.jsonl").unit_ids())

    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]


def test_appended_rows_leave_the_earlier_units_as_they_were(tmp_path, plan):
    before = list(plan(numbered(tmp_path / "a.jsonl", 10)).unit_ids())
    numbered(tmp_path / "a.jsonl", 10, mode="a", start=10)

    after = list(plan(tmp_path / "a.jsonl").unit_ids())

    assert after[:2] == before[:2] and len(after) == 5


def test_an_added_file_leaves_the_units_of_other_large_files_as_they_were(tmp_path, plan):
    (tmp_path / "c").mkdir()
    for name in "bd":
        lines(tmp_path / f"c/{name}.jsonl", *[{"text": f"{name} {i}"} for i in range(7)])
    before = set(plan(tmp_path / "c").unit_ids())

    for name in "ace":
        lines(tmp_path / f"c/{name}.jsonl", *[{"text": f"{name} {i}"} for i in range(5)])

    assert before < set(plan(tmp_path / "c").unit_ids())


def test_growth_anywhere_encodes_only_what_is_new(tmp_path, plan):
    """Whatever was appended where: first run plus second run give every document once."""
    chance = random.Random(1)
    (tmp_path / "c").mkdir()
    for trial in range(10):
        for name in "abc":
            numbered(tmp_path / f"c/{name}.jsonl", 0)
        start = 0
        for _ in range(2):
            done = held(plan(tmp_path / "c")) if start else []
            for name in chance.sample("abc", 2):
                added = chance.randrange(1, 12)
                numbered(tmp_path / f"c/{name}.jsonl", added, mode="a", start=1000 * trial + start)
                start += added
        made = plan(tmp_path / "c")
        new = [item.doc_id for item in read(made, made.against(done).units())]
        assert sorted(new + [doc_id for doc_id, _ in done]) == sorted(str(1000 * trial + i) for i in range(start))


# Duplicates


def test_the_same_document_again_is_encoded_once_and_counted(tmp_path, plan):
    one, other = {"id": "a", "text": "same"}, {"id": "b", "text": "other"}
    made = plan(lines(tmp_path / "1.jsonl", one, one, other), lines(tmp_path / "2.jsonl", other, one))

    assert [item.source for item in read(made, in_input_order(made))] == ["1.jsonl:1", "1.jsonl:3"]
    assert (made.counts.documents, made.counts.duplicates, made.counts.rejected) == (2, 3, 0)


def test_the_same_id_with_another_text_is_rejected_naming_both_places(tmp_path, plan):
    made = plan(
        lines(tmp_path / "1.jsonl", {"id": "a", "text": "first"}),
        lines(tmp_path / "2.jsonl", {"id": "a", "text": "2nd"}),
    )

    document, rejected = read(made, in_input_order(made))

    assert document.text == "first"
    assert (rejected.source, rejected.doc_id, rejected.excerpt) == ("2.jsonl:1", "a", "2nd")
    assert rejected.reason == "the id 'a' stands at 1.jsonl:1 already, with another text"
    assert (made.counts.documents, made.counts.rejected) == (1, 1)


def test_a_unit_of_duplicates_only_is_no_unit(tmp_path, plan):
    made = plan(lines(tmp_path / "a.jsonl", *[{"text": "same"}] * 13))

    assert [unit.documents for unit in made.units()] == [1]
    assert made.counts.duplicates == 12


# What a bank holds


def test_finished_units_are_left_out(tmp_path, plan):
    made = plan(numbered(tmp_path / "a.jsonl", 10))
    first, *others = made.unit_ids()

    assert [unit.unit_id for unit in made.units(finished={first})] == others
    assert list(made.units(finished=set(made.unit_ids()))) == []


def test_what_is_held_is_not_asked_for_when_everything_is_finished(tmp_path, plan):
    made = plan(numbered(tmp_path / "a.jsonl", 10))

    def never():
        raise AssertionError
        yield

    assert made.against(never(), set(made.unit_ids())).counts.units == 0


def test_held_documents_are_left_out_of_the_other_units(tmp_path, plan):
    done = held(plan(numbered(tmp_path / "a.jsonl", 6)))
    made = plan(numbered(tmp_path / "a.jsonl", 4, mode="a", start=6))

    work = made.against(done)
    (half, rest) = work.units()

    assert (half.documents, half.new_documents, half.held) == (4, 2, (0, 1))
    assert [item.doc_id for item in read(made, [half, rest])] == ["6", "7", "8", "9"]
    assert (work.counts.units, work.counts.documents, work.counts.held, work.counts.changed) == (2, 4, 6, 0)


def test_a_changed_document_says_whose_rows_it_replaces(tmp_path, plan):
    made = plan(numbered(tmp_path / "a.jsonl", 4))

    work = made.against([("1", document_hash("old text")), ("2", document_hash("text 2")), ("99", "00" * 16)])
    (unit,) = work.units()

    assert (unit.replaces, unit.held) == (("1",), (2,))
    assert [item.doc_id for item in read(made, [unit])] == ["0", "1", "3"]
    assert work.counts.changed == 1


def test_what_is_held_does_not_change_a_units_id(tmp_path, plan):
    made = plan(numbered(tmp_path / "a.jsonl", 10))

    with_held = made.against([("1", document_hash("text 1")), ("5", document_hash("other"))])

    assert {unit.unit_id for unit in with_held.units()} == set(made.unit_ids())


def test_a_unit_with_rejections_comes_back_though_its_documents_are_held(tmp_path, plan):
    made = plan(lines(tmp_path / "a.jsonl", {"text": "x"}, {"text": ""}))

    (unit,) = made.against(held(made)).units()

    assert [type(item) for item in read_unit(unit, made.columns)] == [Rejected]


def test_another_unit_size_encodes_nothing_again(tmp_path, plan):
    done = held(plan(numbered(tmp_path / "a.jsonl", 10), unit_chunks=4))

    assert list(plan(tmp_path / "a.jsonl", unit_chunks=3).against(done).units()) == []


# The stored plan


def test_a_second_run_reads_no_text(tmp_path, plan, monkeypatch):
    before = plan(numbered(tmp_path / "a.jsonl", 10))
    monkeypatch.setattr(Packing, "__iter__", None)

    again = plan(tmp_path / "a.jsonl")

    assert again.uri == before.uri
    assert (again.counts, list(again.units())) == (before.counts, list(before.units()))


def test_the_bank_is_looked_at_anew_on_a_second_run(tmp_path, plan):
    plan(numbered(tmp_path / "a.jsonl", 4))

    (unit,) = plan(tmp_path / "a.jsonl").against([("3", document_hash("text 3"))]).units()

    assert unit.held == (3,)


@pytest.mark.parametrize("change", ["size", "time", "columns", "unit_chunks"])
def test_another_listing_columns_or_unit_size_plan_anew(tmp_path, plan, change):
    path = numbered(tmp_path / "a.jsonl", 10)
    before = plan(path)
    if change == "size":
        numbered(path, 1, mode="a", start=10)
    if change == "time":
        os.utime(path, ns=(0, 0))

    columns = ColumnRoles(metadata=("id",)) if change == "columns" else None
    after = plan(path, columns=columns, unit_chunks=5 if change == "unit_chunks" else 4)

    assert after.uri != before.uri


@pytest.mark.parametrize("keep", [0, 4, 0.5, -1])
def test_a_torn_plan_is_planned_anew(tmp_path, plan, keep):
    before = plan(numbered(tmp_path / "a.jsonl", 10))
    units = list(before.units())
    whole = Path(before.uri).read_bytes()
    Path(before.uri).write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="is no whole plan"):
        Plan(before.uri, ColumnRoles())

    assert list(plan(tmp_path / "a.jsonl").units()) == units


def test_random_damage_to_a_plan_is_replanned_or_one_clear_error(tmp_path, plan):
    made = plan(numbered(tmp_path / "a.jsonl", 50))
    whole, units, chance = Path(made.uri).read_bytes(), list(made.units()), random.Random(0)
    for _ in range(60):
        at = chance.randrange(len(whole) - 20)
        Path(made.uri).write_bytes(whole[:at] + chance.randbytes(20) + whole[at + 20 :])
        try:
            found = list(plan(tmp_path / "a.jsonl").against([("1", "00" * 16)]).units())
        except ValueError as error:
            assert "is damaged: delete it, and the next run plans anew" in str(error)
        else:
            assert [unit.unit_id for unit in found] == [unit.unit_id for unit in units]


def test_progress_is_told_while_planning(tmp_path):
    path, told = str(numbered(tmp_path / "a.jsonl", 3000)), []

    plan_corpus([path], ColumnRoles(), unit_chunks=10, folder=str(tmp_path / "plans"), progress=told.append)

    assert [counts.documents for counts in told] == [1020, 2040, 2990]


def test_a_failed_planning_leaves_nothing(tmp_path, plan):
    (tmp_path / "a.jsonl").write_text("\n\n")

    with pytest.raises(ValueError, match="the corpus holds no documents: its 1 files are empty"):
        plan(tmp_path / "a.jsonl")

    assert os.listdir(tmp_path / "plans") == []


def test_a_plan_of_many_row_groups_keeps_its_units(tmp_path, plan, monkeypatch):
    monkeypatch.setattr(plan_file, "_GROUP_UNITS", 30)
    made = plan(numbered(tmp_path / "a.jsonl", 70), unit_chunks=1)

    assert pq.ParquetFile(made.uri).num_row_groups == 3
    assert [item.doc_id for item in read(made, in_input_order(made))] == [str(i) for i in range(70)]
    assert made.against(held(made)[:65]).counts.units == 5


def test_the_plan_knows_the_metadata_columns(tmp_path, plan):
    made = plan(lines(tmp_path / "a.jsonl", {"text": "x", "n": 1}), columns=ColumnRoles(metadata=("n",)))
    again = plan(tmp_path / "a.jsonl", columns=ColumnRoles(metadata=("n",)))

    assert made.columns == again.columns == ColumnRoles(metadata=("n",), metadata_fields=(pa.field("n", pa.int64()),))


def test_a_corpus_can_lie_on_an_object_store(tmp_path, plan):
    """`mock:` is pyarrow's own filesystem in memory."""
    table = io.BytesIO()
    pq.write_table(pa.table({"text": ["p1", "p2"]}), table)
    storage.write_whole("mock:///corpus/a/lines.jsonl.gz", gzip.compress(b'{"text": "g1"}\n{"text": "g2"}\n'))
    storage.write_whole("mock:///corpus/a/lines.jsonl", b'{"text": "j1"}\n{"text": "j2"}\n')
    storage.write_whole("mock:///corpus/a/table.parquet", table.getvalue())
    storage.write_whole("mock:///corpus/b/text.txt", b"t1")

    made = plan("mock:///corpus", unit_chunks=1)
    matched = plan("mock:///corpus/*/t*")

    assert [item.text for item in read(made, in_input_order(made))] == ["j1", "j2", "g1", "g2", "p1", "p2", "t1"]
    assert [item.source for item in read(matched, in_input_order(matched))] == [
        "a/table.parquet:0",
        "a/table.parquet:1",
        "b/text.txt",
    ]


def test_a_plan_can_lie_on_an_object_store(tmp_path):
    """`mock:` is pyarrow's own filesystem in memory."""
    path = str(numbered(tmp_path / "a.jsonl", 10))

    first = plan_corpus([path], ColumnRoles(), unit_chunks=4, folder="mock:///bank/plans")
    second = plan_corpus([path], ColumnRoles(), unit_chunks=4, folder="mock:///bank/plans")

    assert list(first.units()) == list(second.units())


# A changed input


@pytest.mark.parametrize("change", ["text", "order", "shorter", "gone line"])
def test_an_input_changed_since_planning_is_an_error_that_names_the_file(tmp_path, plan, change):
    path = numbered(tmp_path / "a.jsonl", 4)
    made = plan(path)
    (unit,) = made.units()
    content = path.read_text().splitlines(keepends=True)
    changed = {
        "text": [line.replace("text 2", "TEXT 2") for line in content],
        "order": content[::-1],
        "shorter": [content[0]],
        "gone line": [*content[:3], " " * (len(content[3]) - 1) + "\n"],
    }
    path.write_text("".join(changed[change]))

    with pytest.raises(ChangedInputError, match=r"a.jsonl changed since it was planned: run the same command again"):
        list(read_unit(unit, made.columns))


def test_a_file_that_only_grew_reads_as_it_was_planned(tmp_path, plan):
    made = plan(numbered(tmp_path / "a.jsonl", 10))
    numbered(tmp_path / "a.jsonl", 5, mode="a", start=10)

    assert len(read(made, made.units())) == 10


def test_a_file_that_is_gone_is_an_oserror_that_names_it(tmp_path, plan):
    made = plan(numbered(tmp_path / "a.jsonl", 4))
    (tmp_path / "a.jsonl").unlink()

    with pytest.raises(FileNotFoundError, match=r"a.jsonl"):
        read(made, made.units())


# Memory


def peak(work):
    tracemalloc.start()
    work()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(packing, "BATCH_RECORDS", 200)  # so that the small corpus fills a batch too

    def packed(name, documents):
        texts = [f"{i} " + "word " * 100 for i in range(documents)]
        if kind == "parquet":
            pq.write_table(pa.table({"text": texts}), tmp_path / name, row_group_size=200)
        else:
            lines(tmp_path / name, *[{"text": text} for text in texts])
        return lambda: sum(unit.documents for unit, *_ in Packing(Corpus((str(tmp_path / name),)), ColumnRoles(), 100))

    small, large = packed(f"a.{kind}", 1000), packed(f"b.{kind}", 10_000)

    assert (small(), large()) == (1000, 10_000)
    assert peak(large) < 1.1 * peak(small)


def test_memory_does_not_grow_with_a_row_group(tmp_path):
    """Arrow's own memory, which tracemalloc does not see. One row group of 2 MB, then one of 20."""

    def arrow_peak(documents):
        texts = [f"{i} " + random.Random(i).randbytes(500).hex() for i in range(documents)]
        pq.write_table(
            pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=documents, use_dictionary=False
        )
        before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
        pa.set_memory_pool(pool)
        packing = Packing(Corpus((str(tmp_path / "a.parquet"),)), ColumnRoles(), 4096)
        assert sum(unit.documents for unit, *_ in packing) == documents
        pa.set_memory_pool(before)
        return pool.max_memory()

    assert arrow_peak(20_000) < max(10 << 20, 1.1 * arrow_peak(2000))


def test_memory_does_not_grow_with_what_the_bank_holds(tmp_path, plan):
    made = plan(numbered(tmp_path / "a.jsonl", 100))

    def holding(count):
        return lambda: made.against((f"id {i}", f"{i:032x}") for i in range(count))

    holding(3000)()  # what the first call makes and keeps is no part of it
    assert peak(holding(30_000)) < 1.1 * peak(holding(3000))
