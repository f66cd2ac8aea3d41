"""Bad input: one clear line on stderr, exit code 1, and nothing is lost. What needs no worker to be refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from works import jsonl

from jobs.cluster.session import Session
from pipeline.bank.bank import Bank
from pipeline.bank.problems import first_problems


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    """What is refused here is refused before Ray starts: nobody waits for it."""

    def start(session):
        raise AssertionError("Ray was started")

    monkeypatch.setattr(Session, "start", start)


@pytest.fixture
def corpus(tmp_path):
    return jsonl(tmp_path / "corpus.jsonl", {"a": "Some text."})


@pytest.fixture
def bank(tmp_path):
    return tmp_path / "bank"


@pytest.fixture
def codec(tmp_path, tiny_codec_folder):
    """A copy of the codec folder that a test may damage."""
    return shutil.copytree(tiny_codec_folder, tmp_path / "codec")


def test_a_corpus_that_does_not_exist(refused, bank, tiny_codec_folder):
    line = refused("encode", "nowhere.jsonl", bank, "--codec", tiny_codec_folder)
    assert line.endswith("nowhere.jsonl does not exist: give a file, a folder, a glob or hf:NAME")
    assert not bank.exists()


def test_a_corpus_without_a_document(refused, bank, tmp_path, tiny_codec_folder):
    (tmp_path / "empty.jsonl").write_text("\n")
    line = refused("encode", tmp_path / "empty.jsonl", bank, "--codec", tiny_codec_folder)
    assert line.startswith("the corpus holds no documents")


def test_a_folder_without_a_readable_file(refused, bank, tmp_path, tiny_codec_folder):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.png").write_bytes(b"PNG")
    line = refused("encode", tmp_path / "folder", bank, "--codec", tiny_codec_folder)
    assert "holds nothing that can be read: found 1 files of other formats, wanted .parquet, .jsonl" in line


def test_a_metadata_column_that_no_file_has(refused, bank, corpus, tiny_codec_folder):
    line = refused("encode", corpus, bank, "--codec", tiny_codec_folder, "--columns", "language")
    assert "language" in line


def test_a_column_that_a_bank_has_already_cannot_be_metadata(refused, bank, corpus, tiny_codec_folder):
    line = refused("encode", corpus, bank, "--codec", tiny_codec_folder, "--columns", "fidelity")
    assert line.startswith("column 'fidelity' cannot be metadata")


@pytest.mark.parametrize("pair", ["colour=red", "unit_chunks", "=8"])
def test_an_unknown_setting_lists_the_known_ones(refused, bank, corpus, pair):
    line = refused("encode", corpus, bank, "--set", pair)
    assert line.startswith(f"--set {pair}: wanted KEY=VALUE with one of the keys batch_size, check, chunk_tokens")


@pytest.mark.parametrize(
    "pair, wanted",
    [
        ("unit_chunks=many", "--set unit_chunks=many: wanted a value of type int"),
        ("load_in_4bit=1", "--set load_in_4bit=1: wanted a value of type bool"),
        ("unit_chunks=0", "unit_chunks is 0; it must be at least 1"),
        ("precision=fp8", "precision is 'fp8'; it must be auto, fp32 or bf16"),
        ("chunk_tokens=4", "CodecConfig.chunk_tokens is 4; it must be 16 to 4096"),
        ("margin=-1", "margin is -1.0; it must be 0 or more"),
        ("commit_seconds=-1", "commit_seconds is -1.0; it must be 0 or more"),
        ("commit_seconds=nan", "commit_seconds is nan; it must be 0 or more"),
        ("price_per_hour=-2", "price_per_hour is -2.0; it must be 0 or more"),
    ],
)
def test_a_setting_of_the_wrong_type_or_size(refused, bank, corpus, pair, wanted):
    assert refused("encode", corpus, bank, "--set", pair) == wanted


def test_a_codec_folder_with_a_missing_file(refused, bank, corpus, codec):
    (codec / "tokenizer.json").unlink()
    line = refused("encode", corpus, bank, "--codec", codec)
    assert line == f"{codec} is not a whole codec folder: tokenizer.json is missing. Copy it again."


def test_a_codec_folder_that_does_not_exist(refused, bank, corpus, tmp_path):
    assert "is not a whole codec folder" in refused("encode", corpus, bank, "--codec", tmp_path / "none")


@pytest.mark.parametrize("name", ["codec.json", "codec.safetensors", "tokenizer.json"])
def test_a_codec_folder_with_a_torn_file(refused, bank, corpus, codec, name):
    content = (codec / name).read_bytes()
    (codec / name).write_bytes(content[: len(content) // 2])
    line = refused("encode", corpus, bank, "--codec", codec)
    assert name in line and "torn" in line
    assert not bank.exists()


def test_a_backbone_that_does_not_exist(refused, bank, corpus):
    assert "is not a model folder" in refused("encode", corpus, bank, "--backbone", "./nowhere")


def test_a_bank_of_another_codec_names_both_sides_and_stays_as_it_is(refused, articles, tmp_path, corpus, codec):
    bank = shutil.copytree(articles, tmp_path / "other")
    settings = json.loads((codec / "codec.json").read_text())
    (codec / "codec.json").write_text(json.dumps(settings | {"identity": "f" * 32}))
    line = refused("encode", corpus, bank, "--codec", codec)
    assert "holds another codec's rows (codec_hash: bank '" in line and f"codec '{'f' * 32}'" in line
    assert Bank.open(bank).version == Bank.open(articles).version and first_problems(Bank.open(bank)) == []


def test_other_columns_than_the_bank_has(refused, articles, tmp_path):
    bank = shutil.copytree(articles, tmp_path / "other")
    corpus = jsonl(tmp_path / "more.jsonl", {"b": "Text."}, year=[1990])
    line = refused("encode", corpus, bank, "--columns", "year")
    assert "year" in line
    assert first_problems(Bank.open(bank)) == []


def test_a_bank_folder_that_holds_other_files(refused, bank, corpus, tiny_codec_folder):
    bank.mkdir()
    (bank / "thesis.doc").write_text("mine")
    assert "thesis.doc" in refused("encode", corpus, bank, "--codec", tiny_codec_folder)
    assert (bank / "thesis.doc").read_text() == "mine"


def test_a_file_in_the_place_of_the_bank(refused, bank, corpus, tiny_codec_folder):
    bank.write_text("mine")
    line = refused("encode", corpus, bank, "--codec", tiny_codec_folder)
    assert line == f"{bank} is a file, and a memory bank is a folder: name another one."
    assert bank.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_bank_folder_without_permission(refused, tmp_path, corpus, tiny_codec_folder):
    (tmp_path / "locked").mkdir(mode=0o500)
    line = refused("encode", corpus, tmp_path / "locked" / "bank", "--codec", tiny_codec_folder)
    assert "Permission denied" in line


@pytest.mark.parametrize("command", [["info"], ["verify"], ["recall", "--all"], ["search", "x"], ["export", "out"]])
@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_is_no_bank(refused, tmp_path, command, there):
    if there:
        (tmp_path / "bank").mkdir()
    name, *rest = command
    line = refused(name, tmp_path / "bank", *(tmp_path / word if word == "out" else word for word in rest))
    assert line == (
        f"{tmp_path / 'bank'} is not a memory bank: it has no transaction log. `nextmem encode` writes one."
    )


def test_a_chunk_that_the_bank_does_not_hold(refused, articles):
    line = refused("recall", articles, "--id", "feed")
    assert "has no chunk_id 'feed' at version 1. Ids there look like '" in line


def test_a_document_that_the_bank_does_not_hold_suggests_one_it_holds(refused, articles):
    assert refused("recall", articles, "--doc", "tokio").endswith("Did you mean 'tokyo'?")


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query(refused, articles, query):
    assert refused("search", articles, query) == "the query is empty: give a few words to search for"


def test_an_export_into_a_folder_that_holds_something(refused, articles, tmp_path):
    (tmp_path / "thesis.doc").write_text("mine")
    line = refused("export", articles, tmp_path)
    assert str(tmp_path) in line
    assert os.listdir(tmp_path) == ["thesis.doc"]


@pytest.mark.parametrize(
    "choice", [["--id", "x", "--doc", "y"], ["--doc", "y", "--all"], ["--doc", "y", "--where", "position = 0"], []]
)
def test_recall_wants_one_choice(nextmem, articles, choice):
    ran = nextmem("recall", articles, *choice)
    assert ran.code == 2 and "give one of --id CHUNK, --doc DOC, --where EXPR, --all" in ran.err


@pytest.mark.parametrize("command", [["search", "fox"], ["recall"], ["refine"]], ids=lambda command: command[0])
def test_a_filter_that_does_not_parse(refused, articles, command):
    name, *rest = command
    line = refused(name, articles, *rest, "--where", "position >= 0", "--where", "doc_id in (fox")
    assert line == "filter 'doc_id in (fox': it ends where `)` or a comma was wanted (at character 15)"


def test_a_bank_whose_codec_is_torn_is_not_read(refused, articles, tmp_path):
    bank = shutil.copytree(articles, tmp_path / "bank")
    Path(Bank.open(bank).codec_path, "codec.safetensors").write_bytes(b"torn")
    assert "codec.safetensors is torn" in refused("recall", bank, "--all")


def test_a_bank_whose_file_is_gone_is_named(nextmem, articles, tmp_path):
    bank = shutil.copytree(articles, tmp_path / "bank")
    file = Bank.open(bank).files()[0]
    (bank / file).unlink()
    ran = nextmem("verify", bank)
    assert ran.code == 1 and file in ran.out and "Traceback" not in ran.err


def test_a_bank_whose_file_is_torn_is_repaired_when_asked(nextmem, articles, tmp_path):
    bank = shutil.copytree(articles, tmp_path / "bank")
    file = Bank.open(bank).files()[0]
    os.truncate(bank / file, 1000)
    ran = nextmem("verify", bank, "--repair")
    assert ran.code == 0 and f"{file}: cannot be read" in ran.out
    assert "1 files were taken out of the bank" in ran.out and "run the same `nextmem encode` again" in ran.out
    (record,) = nextmem("verify", bank, "--repair", "--json").records
    assert (record["problems"], record["damaged"], record["dropped"]) == ([], [], [])
