"""A bank is made, opened, refused, read, looked up, described and checked."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from banks import IDENTITY, codecs_of, race, receipt, rows
from deltalake import DeltaTable, Transaction

from model.refusal import Taken
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit, swap
from pipeline.bank.create import make_table
from pipeline.bank.forget import forget
from pipeline.bank.info import info
from pipeline.bank.lookup import NotInBank, by_chunk_id, by_doc_id
from pipeline.bank.metadata import bank_schema
from pipeline.bank.problems import first_problems
from pipeline.bank.rejected import rejected, to_try_again, write_rejected
from pipeline.bank.upkeep import compact
from pipeline.corpus.documents import ENCODER, READER, Rejected
from pipeline.schema import row_schema
from pipeline.storage.folder import Folder, folder_hash

SCORED = (pa.field("year", pa.int64()), pa.field("tags", pa.list_(pa.string())))


@pytest.fixture
def bank(tmp_path):
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    commit(bank, [receipt(bank, "u1", {"a": 3, "b": 1}), receipt(bank, "u2", {"c": 2})])
    return bank


def test_a_bank_holds_its_codec_and_its_identity(tmp_path):
    codec = tmp_path / "codec"
    (codec / "adapters").mkdir(parents=True)
    (codec / "adapters" / "decoder.safetensors").write_bytes(b"weights")
    bank = Bank.create(tmp_path / "bank", IDENTITY, codec=codec)
    assert Bank.open(bank.folder.uri).identity == IDENTITY
    assert bank.codec_path == f"{tmp_path}/bank/_codec/{folder_hash(codec)}"
    assert Path(bank.codec_path, "adapters", "decoder.safetensors").read_bytes() == b"weights"
    assert bank.table.metadata().configuration["nextmem.backbone"] == "tiny"
    assert bank.schema.names == row_schema().names


def test_of_two_that_make_a_bank_with_two_codecs_one_is_refused_and_the_log_names_the_others(tmp_path, monkeypatch):
    ended = race(monkeypatch, str(tmp_path / "bank"), codecs_of(tmp_path, "a", "b"))
    (refusal,) = (each for each in ended if isinstance(each, str))
    bank = Bank.open(tmp_path / "bank")
    assert "\n" not in refusal
    assert any(words in refusal for words in ("can't be made a memory bank", "holds another codec's rows"))
    assert Path(bank.codec_path, "codec.safetensors").read_text() == bank.identity.codec_hash
    assert [path.name for path in (tmp_path / "bank" / "_codec").iterdir()] == [Path(bank.codec_path).name]


def test_a_table_is_made_by_one_of_those_that_try_at_the_same_moment(tmp_path):
    """In every one of 20 races; delta-rs, left to itself, lets both win in half of them."""
    for place in range(20):
        folder, ended, together = Folder(tmp_path / str(place)), [], threading.Barrier(2)

        def make(codec, folder=folder, ended=ended, together=together):
            together.wait()
            try:
                make_table(folder, bank_schema(()), replace(IDENTITY, codec_hash=codec), f"_codec/{codec}")
                ended.append(codec)
            except Taken:
                pass

        makers = [threading.Thread(target=make, args=(codec,)) for codec in "ab"]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
        bank = Bank.open(folder.uri)
        assert [bank.identity.codec_hash] == ended and bank.version == 0


def test_two_that_make_a_bank_with_one_codec_leave_one_codec(tmp_path, monkeypatch):
    codec = codecs_of(tmp_path, "a")
    race(monkeypatch, str(tmp_path / "bank"), codec * 2)
    bank = Bank.open(tmp_path / "bank")
    assert Path(bank.codec_path, "codec.safetensors").read_text() == bank.identity.codec_hash == "a"


def test_a_bank_whose_codec_lies_flat_still_opens(tmp_path):
    """As all did before the log named a place."""
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    log = tmp_path / "bank" / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    (made,) = (action["metaData"] for action in actions if "metaData" in action)
    del made["configuration"]["nextmem.codec_folder"]
    log.write_text("".join(json.dumps(action) + "\n" for action in actions))
    assert Bank.open(bank.folder.uri).codec_path == f"{tmp_path}/bank/_codec"


def test_a_folder_without_a_log_is_not_a_bank(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a memory bank: it has no transaction log. `nextmem encode`"):
        Bank.open(tmp_path)


def test_another_delta_table_is_not_a_bank(tmp_path):
    DeltaTable.create(tmp_path, pa.schema([("x", pa.int64())]))
    with pytest.raises(ValueError, match="is a Delta table, but not a memory bank"):
        Bank.open(tmp_path)
    with pytest.raises(FileExistsError, match="is a table already"):
        Bank.create(tmp_path, IDENTITY)


def test_a_newer_format_names_both_versions(tmp_path, monkeypatch):
    Bank.create(tmp_path / "bank", IDENTITY)
    monkeypatch.setattr("pipeline.bank.bank.FORMAT_VERSION", 0)
    with pytest.raises(ValueError, match="has format 1, this nextmem reads up to 0: install a newer nextmem"):
        Bank.open(tmp_path / "bank")


def test_a_bank_wants_a_folder_of_its_own(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=r"holds other files \(thesis.txt"):
        Bank.create(tmp_path, IDENTITY)


def test_a_creation_that_died_can_be_repeated(tmp_path):
    (tmp_path / "_codec").mkdir()
    (tmp_path / "_codec" / "half").write_bytes(b"x")
    assert Bank.create(tmp_path, IDENTITY).version == 0


def test_another_codec_is_refused_and_both_sides_are_named(bank):
    bank.require(IDENTITY)
    with pytest.raises(
        ValueError, match=r"codec_hash: bank 'c0dec', codec 'other'; verify_margin: bank 0.5, codec 1.0"
    ):
        bank.require(replace(IDENTITY, codec_hash="other", verify_margin=1.0))


def test_other_metadata_columns_are_refused_and_both_sides_are_named(tmp_path):
    bank = Bank.create(tmp_path / "bank", IDENTITY, SCORED)
    bank.require_metadata(SCORED)
    with pytest.raises(ValueError, match=r"has the metadata columns year \(int64\), tags .* brings year \(string\)"):
        bank.require_metadata((pa.field("year", pa.large_string()),))


@pytest.mark.parametrize("name", ["codes", "Text", "token_ids"])
def test_a_metadata_column_may_not_take_a_name_of_ours(tmp_path, name):
    with pytest.raises(ValueError, match=f"metadata column '{name}' is taken already"):
        Bank.create(tmp_path / "bank", IDENTITY, (pa.field(name, pa.string()),))


def test_a_type_delta_cannot_hold_is_widened_or_refused(tmp_path):
    given = {"u": pa.uint32(), "ls": pa.large_string(), "d": pa.dictionary(pa.int8(), pa.string()), "h": pa.float16()}
    bank = Bank.create(tmp_path / "bank", IDENTITY, tuple(pa.field(*each) for each in given.items()))
    assert [str(field.type) for field in bank.metadata_fields] == ["int64", "string", "string", "float"]
    with pytest.raises(ValueError, match=r"metadata column 'at' is time64.us., which a bank can't hold: make it text"):
        Bank.create(tmp_path / "other", IDENTITY, (pa.field("at", pa.time64("us")),))


def test_metadata_columns_are_stored_and_filtered(tmp_path):
    table = rows("u1", {"a": 2, "b": 1}, year=[1999, 1999, 2001], tags=[["x"], None, ["y", "z"]])
    bank = Bank.create(tmp_path / "bank", IDENTITY, SCORED)
    commit(bank, [Receipt("u1", tuple(bank.writer().write("u1", table)))])
    group = pq.read_metadata(f"{bank.folder.uri}/{bank.files()[0]}").row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    assert columns["tags.list.element"].compression == columns["year"].compression == "ZSTD"
    [batch] = bank.rows(["doc_id", "tags"], pc.field("year") > 2000)
    assert batch.to_pylist() == [{"doc_id": "b", "tags": ["y", "z"]}]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop_columns("patch"), r"lack \['patch'\] and bring \[\]"),
        (lambda t: t.append_column("extra", pa.array([1] * 3)), r"bring \['extra'\]"),
        (lambda t: _set(t, "unit", ["u7"] * 3), "say they are of unit u7"),
        (lambda t: _set(t, "position", ["x", "y", "z"], pa.string()), "do not fit the bank's columns"),
        (lambda t: _set(t, "chunk_id", ["x", None, "z"]), "Casting field 'chunk_id' with null values to non-nullable"),
        (lambda t: _set(t, "embedding", [[1.0]] * 3), "an embedding has 1 values, the bank's 8"),
    ],
)
def test_rows_that_are_not_this_banks_are_refused(bank, spoil, message):
    table = rows("u9", {"a": 3})
    names = bank.folder.names()
    with pytest.raises(ValueError, match=message):
        bank.writer().write("u9", spoil(table))
    assert bank.folder.names() == names


@pytest.mark.parametrize("unit_id", ["../u1", "a/b", "", ".hidden", "x" * 200])
def test_a_unit_id_is_fit_for_a_file_name(bank, unit_id):
    with pytest.raises(ValueError, match="can't be part of a file name"):
        bank.writer().write(unit_id, rows(unit_id, {"a": 1}))


def test_every_reader_sees_the_same_rows(bank):
    table = bank.dataset().to_table(columns=["chunk_id", "embedding", "codes"]).sort_by("chunk_id")
    assert table.num_rows == 6
    theirs = DeltaTable(bank.folder.uri).to_pyarrow_dataset().to_table(columns=table.column_names).sort_by("chunk_id")
    assert theirs.equals(table)
    lazy = pl.scan_delta(bank.folder.uri).select(table.column_names).sort("chunk_id").collect()
    assert lazy["embedding"].to_list() == table["embedding"].to_pylist()
    assert lazy["codes"].to_list() == table["codes"].to_pylist()
    dataset = bank.dataset()
    assert duckdb.sql("SELECT count(*), count(DISTINCT doc_id) FROM dataset").fetchall() == [(6, 3)]
    paths = [f"{bank.folder.uri}/{name}" for name in bank.files()]
    ids = duckdb.read_parquet(paths).order("chunk_id").project("chunk_id").fetchall()
    assert [chunk_id for (chunk_id,) in ids] == table["chunk_id"].to_pylist()
    assert dataset.count_rows() == 6


def test_documents_are_listed_once_each(bank):
    assert sorted(bank.documents()) == sorted(
        {(row["doc_id"], row["doc_hash"]) for row in rows("x", {"a": 1, "b": 1, "c": 1}).to_pylist()}
    )


def test_rows_stream_in_batches(bank):
    batches = list(bank.rows(["position"], batch_rows=2))
    assert max(batch.num_rows for batch in batches) == 2 and sum(batch.num_rows for batch in batches) == 6


def test_a_chunk_is_found_by_its_id_in_the_order_asked(bank):
    ids = pc.sort_indices(bank.dataset().to_table(columns=["chunk_id"])["chunk_id"])
    some = bank.dataset().to_table(columns=["chunk_id"])["chunk_id"].take(ids).to_pylist()[3:0:-1]
    found = by_chunk_id(bank, [*some, some[0]])
    assert found["chunk_id"].to_pylist() == [*some, some[0]]
    assert found.schema.names == bank.schema.names


def test_only_the_row_groups_that_hold_the_chunk_give_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.bank.unit_file.GROUP_BYTES", 1500)
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    commit(bank, [receipt(bank, "u1", {"a": 30})])
    assert pq.read_metadata(f"{bank.folder.uri}/{bank.files()[0]}").num_row_groups > 3
    wanted = rows("u1", {"a": 30})["chunk_id"].to_pylist()
    assert by_chunk_id(bank, wanted[::7])["position"].to_pylist() == [0, 7, 14, 21, 28]


def test_a_document_is_read_in_order_of_position(bank):
    commit(bank, [receipt(bank, "u3", {"d": 4})])
    assert by_doc_id(bank, "d")["position"].to_pylist() == [0, 1, 2, 3]


def test_a_missing_id_is_named_with_ids_like_it(tmp_path):
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    with pytest.raises(NotInBank, match=r"has no doc_id 'report-7' at version 0. The bank is empty"):
        by_doc_id(bank, "report-7")
    commit(bank, [receipt(bank, "u1", {"report-1": 1, "zebra": 1})])
    with pytest.raises(KeyError, match=r"has no doc_id 'report-7' at version 1. Did you mean 'report-1'\?"):
        by_doc_id(bank, "report-7")
    with pytest.raises(NotInBank, match=r"has no chunk_id '42' at version 1. Ids there look like '"):
        by_chunk_id(bank, ["42"])


def test_info_counts_what_is_there(bank):
    bank.folder.put("_rejected/u1.jsonl", b'{"source": "c", "doc_id": "x", "reason": "not UTF-8", "excerpt": ""}\n')
    told = info(bank)
    assert (told.chunks, told.documents, told.tokens, told.units, told.files) == (6, 3, 42, 2, 2)
    assert (told.verified, told.unpatched, told.fidelity) == (6, 0, 0.875)
    assert told.rejected == 1 and told.version == 1 and told.identity == IDENTITY
    assert told.created_at <= told.changed_at and told.bytes_per_chunk == told.bytes / 6
    assert set(told.column_bytes) == set(bank.schema.names) and sum(told.column_bytes.values()) < told.bytes


def test_a_chunk_whose_near_ties_are_in_its_patch_needs_a_patch(tmp_path):
    """Fidelity is 1 where every position is right, by however little."""
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    near_ties, text_alone = b"\0\x05\x01\0", b"\2"
    table = _set(rows("u1", {"a": 4}), "patch", [b"\0", near_ties, text_alone, None])
    table = _set(table, "fidelity", [1.0, 1.0, None, None])
    commit(bank, [Receipt("u1", tuple(bank.writer().write("u1", table)))])
    told = info(bank)
    assert (told.verified, told.unpatched) == (2, 1)


def test_info_of_an_empty_bank(tmp_path):
    told = info(Bank.create(tmp_path / "bank", IDENTITY, SCORED))
    assert (told.chunks, told.documents, told.fidelity, told.bytes_per_chunk) == (0, 0, None, 0.0)
    assert told.metadata_columns["year"] == "int64"


def test_rejected_documents_are_read_of_the_lists_that_commits_name(bank):
    mine = [Rejected("corpus.jsonl", "x", "not UTF-8", "caf\udce9\u2028"), Rejected("corpus.jsonl", None, "no id", "")]
    lost = write_rejected(bank.folder, "u3", [Rejected("corpus.jsonl", "old", "too long", "")])
    name = write_rejected(bank.folder, "u3", mine)
    assert list(rejected(bank)) == []
    commit(bank, [Receipt("u3", rejected=2, rejections=name)])
    assert write_rejected(bank.folder, "u3", []) is None  # another writer of the unit, who is late
    assert lost != name and list(rejected(bank)) == mine


def test_lists_of_an_older_nextmem_count_once_their_unit_is_finished(bank):
    line = '{"source": "c", "doc_id": "%s", "reason": "%s", "excerpt": ""}\n'
    killed = line % ("x", "encoding it ended its worker twice: it is left out")
    bank.folder.put("_rejected/u1.jsonl", (killed + line % ("y", "text is empty")).encode())
    bank.folder.put("_rejected/unfinished.jsonl", killed.encode())
    assert [(found.doc_id, found.by) for found in rejected(bank)] == [("x", ENCODER), ("y", READER)]
    assert {unit: (again.number, again.doc_ids) for unit, again in to_try_again(bank).items()} == {"u1": (1, {"x"})}


def test_how_many_documents_each_unit_brought_is_in_the_log(bank, monkeypatch):
    commit(bank, [receipt(bank, "u1-r1", {"d": 1}), Receipt("u3")])
    monkeypatch.setattr(Bank, "rows", lambda *_, **__: pytest.fail("read rows"))
    assert bank.finished_documents(["u1", "u2", "u3", "u4"]) == {"u1": 3, "u2": 1, "u3": 0}
    assert bank.finished_documents() == {"u1": 3, "u1-r1": 1, "u2": 1, "u3": 0}
    bank.table.create_checkpoint()
    assert bank.finished_documents(["u1", "u2", "u3", "u4"]) == {"u1": 3, "u2": 1, "u3": 0}


@pytest.mark.parametrize("rewrite", [lambda bank: None, compact, lambda bank: bank.table.create_checkpoint()])
def test_documents_that_were_forgotten_are_not_held(bank, rewrite):
    assert forget(bank, ["b"]).chunks == 1
    rewrite(bank)
    assert bank.finished_documents(["u1", "u2", "u3"]) == {"u1": 1, "u2": 1}


def test_where_the_log_does_not_say_it_the_rows_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pipeline.bank.commit.unit_transaction", lambda unit, _: Transaction(f"unit/{unit}", 1)
    )  # as it was
    bank = Bank.create(tmp_path / "old", IDENTITY)
    commit(bank, [receipt(bank, "u1", {"a": 3, "b": 1}), receipt(bank, "u2", {"c": 2}), Receipt("u3")])
    assert bank.finished_documents(["u1", "u2", "u3"]) == {"u1": 2, "u2": 1, "u3": 0}


def test_a_whole_bank_has_no_problems_also_after_compaction(bank):
    assert first_problems(bank) == []
    compact(bank)
    assert len(bank.files()) == 1 and first_problems(bank) == []
    assert pq.read_schema(f"{bank.folder.uri}/{bank.files()[0]}").names == bank.schema.names


def test_verify_names_a_flipped_bit(bank):
    name = bank.files()[0]
    content = bytearray(bank.folder.read(name))
    with pq.ParquetFile(f"{bank.folder.uri}/{name}") as file:
        group = file.metadata.row_group(0)
        column = group.column(file.schema_arrow.get_field_index("codes"))
    content[column.data_page_offset + column.total_compressed_size - 5] ^= 1
    bank.folder.put(name, bytes(content))
    [problem] = first_problems(bank)
    assert problem.where == name and "CRC" in problem.what


def test_verify_names_a_file_that_is_gone(bank):
    gone, other = bank.files()
    bank.folder.remove(gone)
    bank.folder.put(other, b"not parquet")
    assert [problem.where for problem in first_problems(bank)] == [gone, other]


@pytest.mark.parametrize(
    ("documents", "spoil", "where", "what"),
    [
        ({"a": 3}, lambda t: t.take([0, 2]), "document 'a'", "position 1 should come next"),
        ({"a": 3}, lambda t: t.take([1, 2]), "document 'a'", "position 0 should come next"),
        ({"a": 3}, lambda t: _set(t, "char_start", [0, 11, 20]), "document 'a'", "spans characters 11 to 20, and 10"),
        (
            {"a": 2},
            lambda t: _set(t, "text_hash", ["ab", "00" * 16]),
            "'a', position 0",
            "text_hash is not 32 hex digits",
        ),
        ({"a": 2}, lambda t: _set(t, "codes", [b"1" * 96, b"1"]), "'a', position 1", "codes is not 96 bytes"),
        ({"a": 2}, lambda t: _set(t, "doc_hash", ["00" * 16, "11" * 16]), "document 'a'", "the first chunk of"),
        ({"a": 2}, lambda t: t.take([0, 1, 1]), "chunk", "is there 2 times"),
        ({"a": 2}, lambda t: _set(t, "scales", [b"\0\0" * 3, b"\0\x7e" * 3]), "position 1", "scales are not finite"),
        (
            {"a": 2},
            lambda t: _set(t, "embedding", [[1.0] + [0.0] * 7, [float("nan")] * 8]),
            "position 1",
            "embedding is not finite and of length 1",
        ),
        (
            {"a": 2},
            lambda t: _set(t, "embedding", [[1.0] + [0.0] * 7, [0.0] * 8]),
            "position 1",
            "embedding is not finite and of length 1",
        ),
        ({"a": 2}, lambda t: _set(t, "fidelity", [None, float("nan")]), "position 1", "is not between 0 and 1"),
    ],
)
def test_verify_names_the_row(tmp_path, documents, spoil, where, what):
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    files = bank.writer().write("u1", spoil(rows("u1", documents)))
    commit(bank, [Receipt("u1", tuple(files))])
    found = first_problems(bank)
    assert any(where in problem.where and what in problem.what for problem in found), found


def test_a_chunk_without_tokens_may_have_an_embedding_of_zeros(tmp_path):
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    table = _set(_set(rows("u1", {"a": 1}), "embedding", [[0.0] * 8]), "num_tokens", [0])
    commit(bank, [Receipt("u1", tuple(bank.writer().write("u1", table)))])
    assert first_problems(bank) == []


def _set(table, name, values, kind=None):
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, pa.array(values, kind or table.schema.field(name).type))


def test_verify_stops_at_its_limit(tmp_path):
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    table = _set(rows("u1", {"a": 9}), "text_hash", ["?"] * 9)
    commit(bank, [Receipt("u1", tuple(bank.writer().write("u1", table)))])
    assert len(first_problems(bank, limit=4)) == 4


def test_a_reader_stands_on_its_version_until_it_reloads(bank):
    reader = Bank.open(bank.folder.uri)
    commit(bank, [receipt(bank, "u3", {"d": 1})])
    assert (reader.count(), reader.dataset().count_rows()) == (6, 6)
    reader.reload()
    assert reader.count() == 7


def test_a_swap_on_an_old_version_is_refused(bank):
    stale = Bank.open(bank.folder.uri, version=0)
    assert not swap(stale, [], {})
    assert stale.version == 1 and swap(stale, [], {})
