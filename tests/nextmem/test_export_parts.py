"""Texts and latents on their way out of a bank: exact, in every target, or nothing goes out."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from works import ARTICLES, VERIFYING

import nextmem
from nextmem.commands.export import TARGETS
from pipeline.bank.bank import Bank as Table
from pipeline.bank.commit import commit
from pipeline.bank.identity import codec_identity
from pipeline.corpus.documents import ColumnRoles
from pipeline.encode import encode_work
from pipeline.encode.encode_work import EncodeWork
from pipeline.encode.ledger import Ledger
from pipeline.encode.options import EncodeOptions
from pipeline.encode.read_work import ReadWork
from pipeline.export.export import TARGETS as MODULES
from pipeline.plan.plan import plan_corpus

DOCUMENT = Path(__file__).parents[2] / "docs" / "export.md"
OPENERS = {"pandas", "numpy", "datasets", "lancedb", "faiss", "duckdb"}


@pytest.fixture
def bank(articles):
    with nextmem.open(articles) as opened:
        yield opened


@pytest.fixture(params=TARGETS)
def to(request):
    if MODULES[request.param].NEEDS:
        pytest.importorskip(MODULES[request.param].NEEDS, reason=f"pip install -e .[{request.param}]")
    return request.param


def rows_of(folder, to):
    """Every row as a dict, by the target's own library."""
    if to == "lance":
        return importlib.import_module("lancedb").connect(folder).open_table("chunks").to_arrow().to_pylist()
    if to == "duckdb":
        with importlib.import_module("duckdb").connect(f"{folder}/bank.duckdb", read_only=True) as sql:
            return sql.sql("FROM chunks").to_arrow_table().to_pylist()
    if to == "hf":
        return datasets.load_dataset(str(folder), split="train", cache_dir=f"{folder}-cache").to_list()
    return ds.dataset(f"{folder}/data").to_table().to_pylist()


def test_texts_are_exact_and_latents_are_the_bank_s_in_every_target(bank, tmp_path, to):
    told = []
    made = bank.export(
        tmp_path / "out", to=to, with_=["text", "latents"], on_progress=lambda done, of: told.append((done, of))
    )
    rows = rows_of(tmp_path / "out", to)
    assert made.rows == len(rows) == len(bank) and told[-1] == (len(bank), len(bank))
    texts = {doc_id: "".join(row["text"] for row in rows if row["doc_id"] == doc_id) for doc_id in ARTICLES}
    assert texts == ARTICLES
    values = bank.latents([row["chunk_id"] for row in rows]).values.numpy()
    assert np.array_equal(np.array([row["latents"] for row in rows], np.float32).reshape(values.shape), values)
    assert "codes" not in rows[0]


def test_words_are_found_in_lance_where_the_text_was_exported(bank, tmp_path):
    lancedb = pytest.importorskip("lancedb", reason="pip install -e .[lance]")
    bank.export(tmp_path / "out", to="lance", with_=["text"])
    chunks = lancedb.connect(tmp_path / "out").open_table("chunks")
    found = chunks.search("lazy dog", query_type="fts").to_list()
    assert found and {row["doc_id"] for row in found} == {"fox"}


def test_a_row_that_is_not_exact_is_named_and_nothing_goes_out(articles, tmp_path, to):
    copy = shutil.copytree(articles, tmp_path / "bank")
    (name,) = Table.open(copy).files()
    held = pq.read_table(copy / name)
    at = held.schema.get_field_index("text_hash")
    wrong = [*held["text_hash"].to_pylist()[:-1], "0" * 32]
    pq.write_table(held.set_column(at, held.schema.field(at), pa.array(wrong, pa.string())), copy / name)
    last = held.slice(held.num_rows - 1).to_pylist()[0]
    with nextmem.open(copy) as bank:
        with pytest.raises(nextmem.InexactRecall, match=f"chunk {last['chunk_id']} .* does not recall exactly"):
            bank.export(tmp_path / "out", to=to, with_=["text"])
        assert [path.name for path in tmp_path.iterdir()] == ["bank"]
        assert bank.export(tmp_path / "out", to=to).rows == len(bank)


def test_latents_that_are_damaged_are_named_and_nothing_goes_out(articles, tmp_path):
    copy = shutil.copytree(articles, tmp_path / "bank")
    (name,) = Table.open(copy).files()
    held = pq.read_table(copy / name)
    at = held.schema.get_field_index("codes")
    cut = [held["codes"].to_pylist()[0][:-1], *held["codes"].to_pylist()[1:]]
    pq.write_table(held.set_column(at, held.schema.field(at), pa.array(cut, pa.binary())), copy / name)
    with nextmem.open(copy) as bank, pytest.raises(nextmem.Refusal, match="the latents of document 'fox' are damaged"):
        bank.export(tmp_path / "out", with_=["latents"])
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


def test_a_filter_and_a_target_are_refused_before_the_codec_is_loaded(bank, tmp_path):
    for call in ({"filter": "topic = x"}, {"to": "csv"}, {"with_": ["txt"]}):
        with pytest.raises(nextmem.Refusal):
            bank.export(tmp_path / "out", **{"with_": ["text"]} | call)
    with pytest.raises(TypeError, match=r"give a list of parts, such as \['text'\]"):
        bank.export(tmp_path / "out", with_="text")
    assert bank._codec is None and list(tmp_path.iterdir()) == []


def test_the_command_exports_what_was_asked_for(nextmem, articles, tmp_path):
    command = ("export", articles, tmp_path / "out", "--with", "text, embedding", "--where", "doc_id = fox")
    (record,) = nextmem(*command, "--to", "hf", "--json").records
    assert (record["to"], record["rows"]) == ("hf", 2) and "README.md" in record["files"]
    assert "".join(row["text"] for row in rows_of(tmp_path / "out", "hf")) == ARTICLES["fox"]


@pytest.mark.parametrize("name", TARGETS)
def test_the_lines_in_the_documents_open_what_was_exported(bank, tmp_path, monkeypatch, capsys, name):
    for needed in {MODULES[name].NEEDS, "faiss" if name == "hf" else None} - {None}:
        pytest.importorskip(needed)
    (lines,) = re.findall(rf"^### {name}\n\n```python\n(.*?)```", DOCUMENT.read_text(), flags=re.M | re.S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    bank.export("OUT", to=name, with_=["text", "embedding"])
    names = {module: importlib.import_module(module) for module in re.findall(r"(\w+)\.", lines) if module in OPENERS}
    names["query"] = bank.codec().embed("lazy dog")
    exec(lines, names)
    if name == "lance":
        assert set(names["words"]["doc_id"]) == {"fox"} and len(names["near"]) == 5
        return
    assert bank.search("lazy dog", k=1)[0].doc_id in capsys.readouterr().out


def test_a_part_or_target_that_there_is_not_is_a_usage_error(nextmem, articles, tmp_path):
    ran = nextmem("export", articles, tmp_path / "out", "--with", "text,vectors")
    assert ran.code == 2 and "'vectors' is none of text, latents, codes, embedding" in ran.err
    assert nextmem("export", articles, tmp_path / "out", "--to", "csv").code == 2


def test_texts_that_were_exported_can_be_encoded(bank, tmp_path, tiny_codec_folder, monkeypatch):
    """Each chunk becomes a document of its own, with the bank's columns as metadata where they are asked for."""
    monkeypatch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
    bank.export(tmp_path / "out", with_=["text"])
    columns = ColumnRoles(id="chunk_id")
    plan = plan_corpus([str(tmp_path / "out")], columns, unit_chunks=1000, folder=str(tmp_path / "plan"))
    again = Table.create(tmp_path / "again", codec_identity(tiny_codec_folder, VERIFYING), codec=tiny_codec_folder)
    options = EncodeOptions(
        bank=again.folder.uri, codec=again.codec_path, verifying=VERIFYING, columns=replace(plan.columns)
    )
    encoder = EncodeWork(options, Ledger(), worker="me")
    for unit in plan.units():
        commit(again, [encoder.encode(ReadWork(options).read(unit)).receipt])
    with nextmem.open(again.folder.uri) as made:
        texts = {row.doc_id: row.text for row in made.recalled()}
    assert texts == {row.chunk_id: row.text for row in bank.recalled()}
    assert json.loads((tmp_path / "out/__about__/bank.json").read_text())["rows"] == len(bank)
