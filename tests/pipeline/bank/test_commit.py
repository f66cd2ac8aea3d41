"""What a commit promises, each promise with something broken on purpose."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

import pyarrow.parquet as pq
import pytest
from banks import IDENTITY, held, receipt, rows, vacuum
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from pipeline.bank import commit as commit_module
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.forget import forget
from pipeline.bank.upkeep import compact


@pytest.fixture
def bank(tmp_path):
    return Bank.create(tmp_path / "bank", IDENTITY)


def reopened(bank):
    return Bank.open(bank.folder.uri)


def test_files_of_an_uncommitted_unit_are_invisible_and_vacuum_removes_them(bank):
    commit(bank, [receipt(bank, "u1", {"a": 2})])
    orphan = receipt(bank, "u2", {"b": 3}).files[0].path
    assert held(bank) == {"a": 2}
    assert vacuum(reopened(bank)) == [orphan]
    assert held(bank) == {"a": 2}


def test_a_torn_file_is_invisible(bank):
    commit(bank, [receipt(bank, "u1", {"a": 2})])
    whole = bank.folder.read(bank.files()[0])
    for name in ("part-u2-0000-feed.parquet", ".tmp-part-u2-0000-feed.parquet-1234"):
        bank.folder.put(name, whole[: len(whole) // 2])
    assert held(bank) == {"a": 2}
    assert len(vacuum(reopened(bank))) == 2


def test_vacuum_leaves_young_files_and_other_peoples_alone(bank):
    receipt(bank, "u1", {"a": 2})
    bank.folder.put("notes.md", b"mine")
    bank.folder.put("_plan/plan.parquet", b"PAR1")
    bank.folder.put("_codec/adapter.safetensors", b"weights")
    assert vacuum(bank, hours=168) == []
    assert len(vacuum(bank)) == 1
    assert bank.folder.names("_plan") and bank.folder.names("_codec") and "notes.md" in bank.folder.names()


def test_a_second_commit_of_the_same_unit_adds_nothing(bank):
    again = receipt(bank, "u1", {"a": 2}, seed=1)  # a late second writer: other bytes, the same unit
    assert commit(bank, [receipt(bank, "u1", {"a": 2}), again]).units == ("u1",)
    for other in (bank, reopened(bank)):
        done = commit(other, [again, receipt(bank, "u2", {"b": 1})])
    assert done.units == () and done.known == ("u1", "u2")
    assert held(bank) == {"a": 2, "b": 1}


def test_a_stale_driver_cannot_double_a_unit(bank):
    stale = reopened(bank)
    commit(bank, [receipt(bank, "u1", {"a": 2})])
    done = commit(stale, [receipt(stale, "u1", {"a": 2}), receipt(stale, "u2", {"b": 1})])
    assert done.units == ("u2",) and done.known == ("u1",)
    assert held(bank) == {"a": 2, "b": 1}


def test_racing_threads_never_double_a_unit(bank):
    units = [f"u{number:02d}" for number in range(8)]
    receipts = [[receipt(bank, unit, {unit: 2}, seed=writer) for unit in units] for writer in range(4)]
    start = threading.Barrier(4)

    def write(mine):
        own = reopened(bank)
        start.wait()
        for each in mine:
            commit(own, [each])

    threads = [threading.Thread(target=write, args=(mine,)) for mine in receipts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held(bank) == dict.fromkeys(units, 2)
    assert reopened(bank).version == len(units)


def test_a_driver_killed_before_the_log_entry_leaves_nothing_visible(bank):
    """The files are written, the commit is decided, and kill -9 comes before delta-rs writes the log."""
    process = multiprocessing.get_context("spawn").Process(target=_die_committing, args=(bank.folder.uri,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert held(bank) == {} and reopened(bank).version == 0
    assert not reopened(bank).is_finished("u1")
    assert any(name.startswith("part-u1") for name in bank.folder.names())
    commit(bank, [receipt(bank, "u1", {"a": 2})])
    assert held(bank) == {"a": 2}


def _die_committing(uri):
    bank = Bank.open(uri)
    commit_module.CommitProperties = lambda **_: os.kill(os.getpid(), signal.SIGKILL)
    commit(bank, [receipt(bank, "u1", {"a": 2})])


def test_a_unit_whose_documents_were_all_rejected_is_finished(bank):
    done = commit(bank, [Receipt("empty", rejected=3)])
    assert done.units == ("empty",) and bank.version == 1
    assert reopened(bank).is_finished("empty") and reopened(bank).count() == 0
    assert commit(reopened(bank), [Receipt("empty")]).known == ("empty",)


def test_many_units_are_one_version(bank):
    commit(bank, [receipt(bank, f"u{number}", {f"d{number}": 1}) for number in range(5)])
    assert bank.version == 1 and bank.count() == 5
    assert bank.table.history(1)[0]["nextmem"]["units"] == 5


def test_a_replaced_document_changes_in_a_single_version(bank):
    commit(bank, [receipt(bank, "u1", {"a": 3, "b": 2})])
    commit(bank, [receipt(bank, "u2", {"a": 1, "c": 1}, text="v2", replaces=("a",))])
    for version, expected in ((1, {"a": "v1", "b": "v1"}), (2, {"a": "v2", "b": "v1", "c": "v2"})):
        then = Bank.open(bank.folder.uri, version=version)
        first_rows = {doc: hash_ for doc, hash_ in then.documents()}
        assert first_rows == {doc: _hash(text, doc) for doc, text in expected.items()}
    assert held(bank) == {"a": 1, "b": 2, "c": 1}
    assert DeltaTable(bank.folder.uri).version() == 2


def _hash(text, doc_id):
    return rows("x", {doc_id: 1}, text=text).column("doc_hash")[0].as_py()


def test_the_rows_that_stay_beside_a_replaced_document_are_unchanged(bank):
    commit(bank, [receipt(bank, "u1", {"a": 3, "b": 2})])
    before = bank.dataset().to_table().filter(bank.dataset().to_table()["doc_id"].to_numpy() == "b")
    commit(bank, [receipt(bank, "u2", {"a": 1}, text="v2", replaces=("a",))])
    after = bank.dataset().to_table()
    assert after.filter(after["doc_id"].to_numpy() == "b").equals(before)


@pytest.mark.parametrize("doc_id", ["O'Brien", '"; DROP', "a''b", "back\\slash", "100%_\u00e9\u4e2d", 'it\'s "all"\n'])
def test_an_id_of_any_characters_is_replaced_forgotten_and_found(bank, doc_id):
    commit(bank, [receipt(bank, "u1", {doc_id: 3, "other": 1})])
    commit(bank, [receipt(bank, "u2", {doc_id: 1}, text="v2", replaces=(doc_id,))])
    assert held(bank) == {doc_id: 1, "other": 1}
    assert forget(bank, [doc_id]).chunks == 1
    assert held(bank) == {"other": 1}


def test_a_replacement_notices_a_compaction_that_came_between(bank):
    commit(bank, [receipt(bank, "u1", {"a": 2})])
    commit(bank, [receipt(bank, "u2", {"b": 1})])
    stale = reopened(bank)
    assert compact(bank) == 2
    commit(stale, [receipt(stale, "u3", {"a": 1}, text="v2", replaces=("a",))])
    assert held(bank) == {"a": 1, "b": 1}


def test_a_document_that_another_job_brought_meanwhile_is_not_there_twice(bank):
    """Two jobs plan the same new document into different units; the later commit's rows stand."""
    ours = reopened(bank)
    commit(bank, [receipt(bank, "theirs", {"a": 2, "b": 1, "c": 1})])
    commit(ours, [receipt(ours, "ours-1", {"a": 3}, text="v2")])
    commit(ours, [receipt(ours, "ours-2", {"b": 2, "d": 1}, text="v2")])  # b now lies in a file that ours-1 rewrote
    assert held(bank) == {"a": 3, "b": 2, "c": 1, "d": 1}


def test_forgetting_and_compaction_keep_units_finished(bank):
    commit(bank, [receipt(bank, "u1", {"a": 2})])
    commit(bank, [receipt(bank, "u2", {"b": 1}), Receipt("empty")])
    assert forget(bank, ["a"]).chunks == 2
    commit(bank, [receipt(bank, "u3", {"c": 1})])
    compact(bank)
    vacuum(bank)
    bank.table.create_checkpoint()
    assert reopened(bank).finished_units(["u1", "u2", "u3", "empty", "other"]) == {"u1", "u2", "u3", "empty"}
    assert commit(reopened(bank), [receipt(bank, "u1", {"a": 2})]).units == ()
    assert held(bank) == {"b": 1, "c": 1}


def test_finished_units_are_the_same_by_log_and_by_lookup(bank, monkeypatch):
    units = [f"u{number}" for number in range(40)]
    for start in range(0, 40, 8):
        commit(bank, [Receipt(unit) for unit in units[start : start + 8]])
        if start == 16:
            bank.table.create_checkpoint()  # some units in the checkpoint, some in commits after it
    asked = [*units, *(f"other{number}" for number in range(20))]
    assert bank.finished_units(asked) == bank.finished_units() == set(units)
    monkeypatch.setattr(
        "pipeline.bank.transaction_log._transactions", lambda *_: (_ for _ in ()).throw(FileNotFoundError())
    )
    assert bank.finished_units(asked) == set(units)


def test_an_older_version_knows_only_its_own_units(bank):
    for number in range(3):
        commit(bank, [Receipt(f"u{number}")])
    then = Bank.open(bank.folder.uri, version=2)
    assert then.finished_units([f"u{number}" for number in range(30)]) == {"u0", "u1"}


def test_a_unit_whose_file_is_elsewhere_is_refused(bank):
    lost = receipt(bank, "u1", {"a": 1})
    bank.folder.remove(lost.files[0].path)
    with pytest.raises(FileNotFoundError, match=r"u1 says it wrote part-u1-.* every worker must see the bank"):
        commit(bank, [lost])
    assert bank.version == 0


def test_a_commit_that_cannot_be_written_says_so_and_can_be_repeated(bank, monkeypatch):
    calls = []

    class Broken:
        def __getattr__(self, name):
            return getattr(real, name)

        def create_write_transaction(self, *args, **kwargs):
            calls.append(args)
            raise CommitFailedError("disk full")

    real, mine = bank.table, receipt(bank, "u1", {"a": 1})
    bank.table = Broken()
    with pytest.raises(CommitFailedError, match="disk full"):
        commit(bank, [mine])
    assert len(calls) == 1
    bank.table = real
    assert commit(bank, [mine]).units == ("u1",)


def test_a_receipt_travels_as_text(bank):
    mine = receipt(bank, "u1", {"a": 1}, replaces=("a",))
    assert Receipt.from_json(mine.to_json()) == mine


def test_a_large_unit_becomes_several_files_of_one_commit(bank, monkeypatch):
    monkeypatch.setattr("pipeline.bank.unit_file.GROUP_BYTES", 10_000)
    monkeypatch.setattr("pipeline.bank.unit_file.MAX_FILE_BYTES", 60_000)
    monkeypatch.setattr("pipeline.bank.unit_file.FOOTER_BYTES", 20_000)
    mine = receipt(bank, "big", {"a": 300, "b": 300})
    assert len(mine.files) > 2 and max(file.size for file in mine.files) <= 60_000
    assert sum(file.num_records for file in mine.files) == 600
    commit(bank, [mine])
    assert bank.version == 1 and held(bank) == {"a": 300, "b": 300}


def test_a_row_without_text_is_at_most_8_kb_at_the_shipped_widths(tmp_path):
    """D = 576, K = 15: codes 4320 bytes, scales 270, embedding 2304; the rest is ids and hashes."""
    import numpy as np
    import pyarrow as pa

    from pipeline.bank.unit_file import parquet_files
    from pipeline.schema import CODES, EMBEDDING, SCALES

    rng, table = np.random.default_rng(0), rows("u1", {f"document-{number}": 20 for number in range(50)})
    wide = {CODES: [rng.bytes(4320) for _ in range(1000)], SCALES: [rng.bytes(270) for _ in range(1000)]}
    wide[EMBEDDING] = rng.normal(size=(1000, 576)).astype(np.float32).tolist()
    for name, values in wide.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    [content] = parquet_files(table.schema, table.to_batches())
    assert 6894 < content.size / 1000 < 7200
    group = pq.read_metadata(pa.BufferReader(content)).row_group(0)
    kinds = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    assert kinds[CODES].compression == kinds["embedding.list.element"].compression == "UNCOMPRESSED"
    assert kinds["text_hash"].compression == kinds["text"].compression == "ZSTD"
    assert not any("DICTIONARY" in encoding for encoding in kinds[CODES].encodings)
