"""An export opens in what people have, holds the live rows, and is there whole or not at all."""

from __future__ import annotations

import json

import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from banks import IDENTITY, D, E, K, receipt

from pipeline.bank.bank import Bank
from pipeline.bank.commit import commit
from pipeline.bank.forget import forget
from pipeline.export.export import export
from pipeline.schema import row_schema


@pytest.fixture
def bank(tmp_path):
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    commit(bank, [receipt(bank, "u1", {"a": 3, "gone": 2}), receipt(bank, "u2", {"b": 2})])
    forget(bank, ["gone"])
    return bank


def test_an_export_holds_the_live_rows(bank, tmp_path):
    done = export(bank, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / done.files[0])
    assert (done.rows, len(done.files)) == (5, 1) == (table.num_rows, 1)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), E)
    assert table.cast(bank.schema).sort_by("chunk_id").equals(bank.dataset().to_table().sort_by("chunk_id"))


def test_an_export_names_its_codec_and_explains_its_columns(bank, tmp_path):
    export(bank, tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out" / "data/part-00000.parquet")
    about = json.loads((tmp_path / "out" / "__about__/bank.json").read_text())
    assert json.loads(schema.metadata[b"nextmem.identity"]) == about["codec"]
    assert about["codec"]["num_latents"] == K and about["rows"] == 5 and about["files"] == ["data/part-00000.parquet"]
    readme = (tmp_path / "out" / "__about__/README.md").read_text()
    assert all(f"{name}" in readme for name in schema.names) and f"{K} vectors of width {D}" in readme


READERS = {
    "pandas": lambda folder, cache: len(pd.read_parquet(folder)),
    "polars": lambda folder, cache: pl.read_parquet(folder).height,
    "polars, a glob": lambda folder, cache: pl.read_parquet(f"{folder}/**/*.parquet").height,
    "pyarrow table": lambda folder, cache: pq.read_table(folder).num_rows,
    "pyarrow dataset": lambda folder, cache: ds.dataset(folder).count_rows(),
    "duckdb": lambda folder, cache: duckdb.sql(f"SELECT count(*) FROM '{folder}/**/*.parquet'").fetchall()[0][0],
    "data_dir": lambda folder, cache: (
        datasets.load_dataset("parquet", data_dir=folder, split="train", cache_dir=cache).num_rows
    ),
    "load_dataset": lambda folder, cache: datasets.load_dataset(folder, split="train", cache_dir=cache).num_rows,
}


OPENED = [(reader, folder) for reader in READERS for folder in ("out/data", "out")]
OPENED.remove(("polars", "out"))  # Polars opens no folder that holds a file of another kind


@pytest.mark.parametrize(("reader", "folder"), OPENED)
def test_every_tool_opens_the_folder(bank, tmp_path, monkeypatch, reader, folder):
    monkeypatch.setattr("pipeline.bank.unit_file.GROUP_BYTES", 600)
    monkeypatch.setattr("pipeline.bank.unit_file.MAX_FILE_BYTES", 700)
    monkeypatch.setattr("pipeline.bank.unit_file.FOOTER_BYTES", 0)
    assert len(export(bank, tmp_path / "out").files) > 1
    assert READERS[reader](str(tmp_path / folder), str(tmp_path / "cache")) == 5


def test_every_tool_reads_the_same_rows(bank, tmp_path):
    export(bank, tmp_path / "out")
    path = str(tmp_path / "out" / "data/part-00000.parquet")
    expected = ds.dataset(path).to_table()
    vectors, codes = np.array(expected["embedding"].to_pylist(), np.float32), expected["codes"].to_pylist()

    frame = pd.read_parquet(path)
    assert np.array_equal(np.stack(frame["embedding"]), vectors) and list(frame["codes"]) == codes
    frame = pl.read_parquet(path)
    assert np.array_equal(frame["embedding"].to_numpy(), vectors) and frame["codes"].to_list() == codes
    found = duckdb.sql(f"SELECT embedding, codes FROM '{path}'").fetchall()
    assert [row[1] for row in found] == codes and np.array_equal(np.array([row[0] for row in found]), vectors)
    loaded = datasets.load_dataset("parquet", data_files=path, split="train", cache_dir=str(tmp_path / "cache"))
    assert np.array_equal(np.array(loaded["embedding"], np.float32), vectors) and list(loaded["codes"]) == codes
    assert np.frombuffer(loaded[0]["codes"], np.uint8).size == K * D // 2
    assert np.frombuffer(loaded[0]["scales"], np.float16).size == K * D // 64


def test_a_large_bank_gives_several_files(bank, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.bank.unit_file.GROUP_BYTES", 600)
    monkeypatch.setattr("pipeline.bank.unit_file.MAX_FILE_BYTES", 700)
    monkeypatch.setattr("pipeline.bank.unit_file.FOOTER_BYTES", 0)
    done = export(bank, tmp_path / "out")
    assert len(done.files) > 1
    assert ds.dataset([tmp_path / "out" / name for name in done.files]).count_rows() == 5


def test_an_empty_bank_exports_its_columns(tmp_path):
    export(Bank.create(tmp_path / "bank", IDENTITY), tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "data/*.parquet").shape == (0, len(row_schema()))


def test_a_folder_that_holds_anything_is_refused(bank, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="out is not empty: export into a new folder"):
        export(bank, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert export(bank, tmp_path / "empty").rows == 5


def test_a_file_in_the_place_of_an_export_is_named_as_one(bank, tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(FileExistsError, match="out is a file, and an export is a folder: name another one"):
        export(bank, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize("place", ["bank", "bank/out", "bank/a/b/out", "link/out"])
def test_an_export_into_a_bank_is_refused_and_leaves_nothing(bank, tmp_path, place):
    (tmp_path / "link").symlink_to(tmp_path / "bank")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match="an export needs a folder of its own, outside of any bank"):
        export(bank, tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bank_inside_a_bank_is_refused_and_leaves_nothing(bank, tmp_path):
    with pytest.raises(FileExistsError, match=f"lies inside the table {tmp_path}/bank: a bank needs"):
        Bank.create(tmp_path / "bank/sub/bank", IDENTITY)
    assert not (tmp_path / "bank/sub").exists()


def test_a_file_uri_is_a_place_for_an_export(bank, tmp_path):
    export(bank, f"file://{tmp_path}/my%20out")
    assert ds.dataset(tmp_path / "my out").count_rows() == 5


def test_an_export_that_fails_leaves_nothing(bank, tmp_path):
    bank.folder.remove(bank.files()[0])
    with pytest.raises(FileNotFoundError):
        export(bank, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank"]
