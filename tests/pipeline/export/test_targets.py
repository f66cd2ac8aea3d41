"""Each target is opened by its own library, which finds the rows, and the nearest of them as the bank itself does."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from banks import IDENTITY, D, E, K, receipt, rows

import pipeline.export.export as export_module
from nextmem.commands.export import PARTS as PARTS_ON_THE_COMMAND_LINE
from nextmem.commands.export import TARGETS as TARGETS_ON_THE_COMMAND_LINE
from pipeline.bank.bank import Bank
from pipeline.bank.commit import commit
from pipeline.bank.search import nearest
from pipeline.bank.where import rows_where
from pipeline.export.export import TARGETS, export
from pipeline.export.rows import PARTS
from pipeline.schema import metadata_of

NEIGHBOURS = 5
UNITS, DOCUMENTS, CHUNKS = 3, 10, 4


def installed(to: str) -> str:
    if TARGETS[to].NEEDS:
        pytest.importorskip(TARGETS[to].NEEDS, reason=f"pip install -e .[{to}]")
    return to


@pytest.fixture(params=TARGETS)
def to(request):
    return installed(request.param)


def own(unit: int) -> dict[str, list]:
    return {"year": [2000 + unit] * DOCUMENTS * CHUNKS, "tags": [["a", "b"]] * DOCUMENTS * CHUNKS}


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """120 chunks in three files. Tests only read it."""
    fields = metadata_of(rows("u", {f"d{n}": CHUNKS for n in range(DOCUMENTS)}, **own(0)).schema)
    bank = Bank.create(tmp_path_factory.mktemp("made") / "bank", IDENTITY, fields)
    for unit in range(UNITS):
        documents = {f"d{unit}-{n}": CHUNKS for n in range(DOCUMENTS)}
        commit(bank, [receipt(bank, f"u{unit}", documents, seed=unit, **own(unit))])
    return bank


QUERIES = np.random.default_rng(7).normal(size=(4, E)).astype(np.float32)


def by_parquet(folder, query):
    table = ds.dataset(f"{folder}/data").to_table()
    scores = np.array(table["embedding"].to_pylist()) @ query
    return table.take(np.argsort(-scores)[:NEIGHBOURS])["chunk_id"].to_pylist()


def by_hf(folder, query):
    held = datasets.load_dataset(folder, split="train", cache_dir=f"{folder}-cache").with_format("numpy")
    scores = held["embedding"][:] @ query
    return [str(held[int(at)]["chunk_id"]) for at in np.argsort(-scores)[:NEIGHBOURS]]


def by_lance(folder, query):
    import lancedb

    chunks = lancedb.connect(folder).open_table("chunks")
    found = chunks.search(query, vector_column_name="embedding").distance_type("cosine").limit(NEIGHBOURS)
    return found.to_arrow()["chunk_id"].to_pylist()


def by_faiss(folder, query):
    import faiss

    _, ids = faiss.read_index(f"{folder}/index.faiss").search(query[None], NEIGHBOURS)
    named = ds.dataset(f"{folder}/data").to_table(["faiss_id", "chunk_id"]).to_pylist()
    chunk_ids = {row["faiss_id"]: row["chunk_id"] for row in named}
    return [chunk_ids[found] for found in ids[0].tolist()]


def by_duckdb(folder, query):
    import duckdb

    near = f"array_cosine_similarity(embedding, ?::FLOAT[{E}])"
    with duckdb.connect(f"{folder}/bank.duckdb", read_only=True) as sql:
        found = sql.execute(f"SELECT chunk_id FROM chunks ORDER BY {near} DESC LIMIT {NEIGHBOURS}", [query.tolist()])
        return [chunk_id for (chunk_id,) in found.fetchall()]


NEAREST = {"parquet": by_parquet, "hf": by_hf, "lance": by_lance, "faiss": by_faiss, "duckdb": by_duckdb}


def opened(folder: str, to: str) -> pa.Table:
    """All rows, by the target's own library; of FAISS, what its ids stand for."""
    if to == "lance":
        return importlib.import_module("lancedb").connect(folder).open_table("chunks").to_arrow()
    if to == "duckdb":
        with importlib.import_module("duckdb").connect(f"{folder}/bank.duckdb", read_only=True) as sql:
            return sql.sql("FROM chunks").to_arrow_table()
    if to == "hf":
        return datasets.load_dataset(folder, split="train", cache_dir=f"{folder}-cache").data.table
    return ds.dataset(f"{folder}/data").to_table()


def test_the_nearest_are_those_that_the_bank_finds(bank, tmp_path, to):
    done = export(bank, tmp_path / "out", to)
    assert done.rows == UNITS * DOCUMENTS * CHUNKS
    for query in QUERIES:
        expected = [hit.chunk_id for hit in nearest(bank, query, NEIGHBOURS)]
        assert NEAREST[to](str(tmp_path / "out"), query) == expected


def test_the_nearest_among_some_rows_are_those_that_a_filtered_search_finds(bank, tmp_path, to):
    filter = rows_where(["year in (2000, 2002) and position > 0"], bank.schema)
    assert export(bank, tmp_path / "out", to, filter=filter).rows == 2 * DOCUMENTS * (CHUNKS - 1)
    for query in QUERIES:
        expected = [hit.chunk_id for hit in nearest(bank, query, NEIGHBOURS, filter=filter)]
        assert NEAREST[to](str(tmp_path / "out"), query) == expected


def test_every_column_comes_out_as_it_was_and_in_order(bank, tmp_path, to):
    export(bank, tmp_path / "out", to)
    table = opened(str(tmp_path / "out"), to)
    plain = [name for name in bank.schema.names if name not in ("embedding", "encoded_at", "tags")]
    expected = pa.Table.from_batches(bank.rows())
    for name in plain:
        assert table[name].to_pylist() == expected[name].to_pylist(), name
    assert table["tags"].to_pylist() == expected["tags"].to_pylist()
    stamps = [stamp.timestamp() for stamp in table["encoded_at"].to_pylist()]
    assert stamps == [stamp.timestamp() for stamp in expected["encoded_at"].to_pylist()]
    if to != "faiss":
        assert np.array_equal(np.array(table["embedding"].to_pylist()), np.array(expected["embedding"].to_pylist()))


def test_only_the_parts_asked_for_go_out(bank, tmp_path, to):
    export(bank, tmp_path / "out", to, parts=["embedding"])
    names = set(opened(str(tmp_path / "out"), to).column_names)
    assert not names & {"codes", "scales", "patch", "text", "latents"}
    assert {"chunk_id", "doc_id", "year", "tags", "text_hash"} <= names
    about = json.loads((tmp_path / "out/__about__/bank.json").read_text())
    assert (about["version"], about["rows"], about["codec"]["num_latents"]) == (bank.version, 120, K)
    readme = (tmp_path / "out/__about__/README.md").read_text()
    assert "| doc_id, position |" in readme and "| codes" not in readme and "Reading the latents" not in readme


def test_what_is_for_search_has_the_embedding_without_being_asked(bank, tmp_path):
    for to in ("lance", "faiss"):
        export(bank, tmp_path / installed(to), to, parts=[])
        assert NEAREST[to](str(tmp_path / to), QUERIES[0]) == [h.chunk_id for h in nearest(bank, QUERIES[0], 5)]
    export(bank, tmp_path / "parquet", parts=[])
    assert "embedding" not in opened(str(tmp_path / "parquet"), "parquet").column_names


def test_an_empty_bank_and_a_filter_that_nothing_meets_open_too(bank, tmp_path, to):
    made = export(bank, tmp_path / "out", to, filter=rows_where(["year = 1900"], bank.schema))
    table = opened(str(tmp_path / "out"), "parquet" if to == "hf" else to)  # `datasets` opens nothing without rows
    assert made.rows == 0 == table.num_rows and "doc_id" in table.column_names


def test_a_fault_halfway_leaves_nothing(bank, tmp_path, to, monkeypatch):
    left = iter([True, False])
    whole = bank.rows
    monkeypatch.setattr(bank, "rows", lambda *args, **kwargs: _torn(whole(*args, **kwargs), left))
    with pytest.raises(OSError, match="the disk is gone"):
        export(bank, tmp_path / "out", to)
    assert list(tmp_path.iterdir()) == []


def _torn(batches, left):
    for batch in batches:
        if not next(left):
            raise OSError("the disk is gone")
        yield batch


def test_what_lies_there_is_refused_and_stays(bank, tmp_path, to):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="is not empty: export into a new folder"):
        export(bank, tmp_path, to)
    with pytest.raises(FileExistsError, match="is a file, and an export is a folder"):
        export(bank, tmp_path / "thesis.txt", to)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "folder/inner").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="folder is not empty"):
        export(bank, tmp_path / "folder", to)
    with pytest.raises(FileExistsError, match="outside of any bank"):
        export(bank, f"{bank.folder.uri}/out", to)


@pytest.mark.parametrize("to", [to for to in TARGETS if TARGETS[to].NEEDS])
def test_a_package_that_is_not_there_is_named_with_what_installs_it(bank, tmp_path, monkeypatch, to):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        export_module.importlib.util, "find_spec", lambda name: None if name == TARGETS[to].NEEDS else real(name)
    )
    said = rf"an export to {to} needs the package {TARGETS[to].NEEDS}: pip install 'nextmem\[{to}\]'"
    with pytest.raises(RuntimeError, match=said):
        export(bank, tmp_path / "out", to)
    assert list(tmp_path.iterdir()) == []
    extras = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert f"\n{to} = [" in extras


def test_what_is_no_target_or_part_is_refused(bank, tmp_path):
    with pytest.raises(ValueError, match="no export to 'csv': choose one of parquet, hf, lance, faiss, duckdb"):
        export(bank, tmp_path / "out", "csv")
    with pytest.raises(ValueError, match="no part 'vectors': name some of text, latents, codes, embedding"):
        export(bank, tmp_path / "out", parts=["vectors"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", ["lance", "faiss", "duckdb"])
def test_what_a_library_writes_itself_goes_to_a_local_disk(bank, to):
    with pytest.raises(ValueError, match=f"an export to {installed(to)} is made on a local disk, not at s3://none/out"):
        export(bank, "s3://none/out", to)


def test_a_column_of_the_user_s_own_is_never_hidden_by_one_that_an_export_adds(tmp_path):
    table = rows("u", {"d": 1}, faiss_id=[3])
    bank = Bank.create(tmp_path / "bank", IDENTITY, metadata_of(table.schema))
    commit(bank, [receipt(bank, "u", {"d": 1}, faiss_id=[3])])
    with pytest.raises(ValueError, match="the bank has a column 'faiss_id' of its own"):
        export(bank, tmp_path / "out", installed("faiss"))
    assert export(bank, tmp_path / "plain").rows == 1


def test_a_card_says_which_files_are_the_rows(bank, tmp_path):
    export(bank, tmp_path / "out", "hf")
    head, text = (tmp_path / "out/README.md").read_text().removeprefix("---\n").split("\n---\n")
    assert "path: data/*.parquet" in head and "size_categories:\n- n<1K" in head
    assert "load_dataset" in text and f"{K} vectors of width {D}" in text


def test_lance_has_an_index_over_the_vectors(bank, tmp_path):
    installed("lance")
    import lancedb

    export(bank, tmp_path / "out", "lance")
    (index,) = lancedb.connect(tmp_path / "out").open_table("chunks").list_indices()
    assert (index.index_type, index.columns) == ("IvfFlat", ["embedding"])


def test_the_command_line_knows_the_same_targets_and_parts():
    assert tuple(TARGETS) == TARGETS_ON_THE_COMMAND_LINE
    assert PARTS == PARTS_ON_THE_COMMAND_LINE
