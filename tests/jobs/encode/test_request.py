"""`nextmem encode` from end to end: every chunk once, every text exact; then grown, changed and damaged corpora.

The jobs run in this process on the shared Ray, one after another, and each test holds one fact of what they left.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from works import jsonl

from benchmarks.chaos.disk import NoSmallDiskError, SmallDisk
from nextmem.cli import main
from pipeline.bank.bank import Bank
from pipeline.bank.commit import add_actions, remove_actions, swap
from pipeline.bank.forget import forget
from pipeline.bank.problems import first_problems
from pipeline.bank.rejected import rejected
from pipeline.bank.replace import without_documents

pytestmark = pytest.mark.ray

SAMPLES = Path(__file__).parents[3] / "samples" / "articles.jsonl"
ARTICLES = {row["id"]: row for row in map(json.loads, SAMPLES.read_text().splitlines())}
CHANGED, FIRST = "voyager-1", 30  # the article that changes, and how many there are at first


def encode(corpus, bank, *arguments):
    """(exit code, the summary, stderr) of `nextmem encode --json`."""
    common = ("--backbone", "tiny-llama", "--actors", "1", "--set", "precision=fp32", "--json")
    result = CliRunner().invoke(main, ["encode", str(corpus), str(bank), *common, *arguments])
    assert isinstance(result.exception, SystemExit | None), repr(result.exception)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    return result.exit_code, next((r for r in records if r["event"] == "summary"), None), result.stderr


def recalled(bank):
    """{doc_id: text} through `nextmem recall --all --json`; every row is exact."""
    result = CliRunner().invoke(main, ["recall", str(bank), "--all", "--json"])
    assert result.exit_code == 0, result.stderr
    texts: dict[str, str] = {}
    for row in map(json.loads, result.stdout.splitlines()):
        assert row["exact"] and row["char_start"] == len(texts.get(row["doc_id"], ""))
        texts[row["doc_id"]] = texts.get(row["doc_id"], "") + row["text"]
    return texts


def rows(bank, *columns):
    return [row for batch in bank.rows(list(columns)) for row in batch.to_pylist()]


def write(path, articles):
    path.write_text("".join(json.dumps(row) + "\n" for row in articles))
    return path


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEXTMEM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def first(ray_session, tmp_path_factory):
    """The bank of the first 30 articles: (folder, how its job ended)."""
    folder = tmp_path_factory.mktemp("first")
    corpus = write(folder / "articles.jsonl", list(ARTICLES.values())[:FIRST])
    return folder, encode(corpus, folder / "bank", "--columns", "title,topic", "--set", "unit_chunks=32")


@pytest.fixture(scope="module")
def grown(first):
    """The bank after the other articles came and one changed: (bank, version before, how the job ended, the corpus)."""
    folder, _ = first
    before = Bank.open(folder / "bank").version
    articles = [
        row | {"text": "Rewritten. " + row["text"]} if row["id"] == CHANGED else row for row in ARTICLES.values()
    ]
    corpus = write(folder / "articles.jsonl", articles)
    ended = encode(corpus, folder / "bank", "--columns", "title,topic", "--set", "unit_chunks=32")
    return folder / "bank", before, ended, {row["id"]: row["text"] for row in articles}


def test_every_article_is_encoded_and_counted(first):
    folder, (code, summary, _) = first
    assert code == 0
    assert (summary["documents"], summary["rejected"], summary["failures"]) == (FIRST, 0, [])
    bank = Bank.open(folder / "bank", version=1 if summary["units"] == 1 else None)
    assert summary["units"] > 1 and summary["bytes_per_chunk"] > 0 and bank.identity.backbone == "tiny-llama"


def test_nothing_but_json_is_printed(first):
    _, (_, summary, stderr) = first
    assert stderr == ""
    assert {"event", "bank", "chunks", "tokens", "tokens_per_second", "fidelity", "whole"} <= set(summary)


def test_a_second_run_encodes_nothing(grown, first):
    folder, _ = first
    bank, *_ = grown
    version = Bank.open(bank).version
    code, summary, _ = encode(folder / "articles.jsonl", bank, "--columns", "title,topic", "--set", "unit_chunks=32")
    assert (code, summary["chunks"], summary["held"]) == (0, 0, len(ARTICLES))
    assert Bank.open(bank).version == version


def test_other_units_of_the_same_corpus_encode_nothing(grown, first):
    folder, _ = first
    code, summary, _ = encode(folder / "articles.jsonl", grown[0], "--columns", "title,topic", "--set", "unit_chunks=7")
    assert (code, summary["chunks"], summary["held"]) == (0, 0, len(ARTICLES))


def test_a_grown_corpus_encodes_only_what_is_new_or_changed(grown):
    _, _, (code, summary, _), _ = grown
    assert code == 0
    assert (summary["documents"], summary["held"], summary["replaced"]) == (len(ARTICLES) - FIRST + 1, FIRST - 1, 1)


def test_every_chunk_is_there_once_and_the_bank_is_whole(grown):
    bank = Bank.open(grown[0])
    ids = [row["chunk_id"] for row in rows(bank, "chunk_id")]
    assert len(ids) == len(set(ids)) and first_problems(bank) == []


def test_every_text_is_recalled_as_it_stood_in_its_source(grown):
    bank, _, _, texts = grown
    assert recalled(bank) == texts


def test_columns_are_carried(grown):
    for row in rows(Bank.open(grown[0]), "doc_id", "title", "topic"):
        assert (row["title"], row["topic"]) == (ARTICLES[row["doc_id"]]["title"], ARTICLES[row["doc_id"]]["topic"])


def test_a_changed_document_replaces_its_rows_in_one_version(grown):
    bank, before, _, _ = grown
    for version in range(before, Bank.open(bank).version + 1):
        hashes = {row["doc_hash"] for row in rows(Bank.open(bank, version=version), "doc_id", "doc_hash")
                  if row["doc_id"] == CHANGED}  # fmt: skip
        assert len(hashes) == 1


def test_rows_of_unchanged_documents_stay_as_they_were(grown, first):
    bank, before, *_ = grown
    stamp = lambda version: {  # noqa: E731
        (row["chunk_id"], row["encoded_at"])
        for row in rows(Bank.open(bank, version=version), "doc_id", "chunk_id", "encoded_at")
        if row["doc_id"] != CHANGED
    }
    assert stamp(before) <= stamp(None)


DIFFICULT = {
    "moon": "The Moon has no air.",
    "one-token": "x",
    "borders": "👩‍👩‍👧‍👦 e\u0301\u0323 漢字かな交じり文 🇯🇵🇫🇷 " * 40,
    "specials": "<|endoftext|> is text here, and so are <|im_start|> and <|im_end|>\n" * 4,
    "long": "A document may be far longer than a unit. " * 5000,
}
BROKEN = [
    b'{"id": "torn", "text": ',
    b'{"id": "latin-1", "text": "caf\xe9"}',
    b'{"id": "columnless", "body": "text under another name"}',
    b'{"id": "number", "text": 7}',
    b'{"id": "empty", "text": ""}',
    b'{"id": "moon", "text": "The Moon has no air."}',
    b'{"id": "moon", "text": "The Moon is made of cheese."}',
]


@pytest.fixture(scope="module")
def difficult(ray_session, tmp_path_factory):
    """The bank of DIFFICULT and BROKEN lines: (bank, how its job ended)."""
    folder = tmp_path_factory.mktemp("difficult")
    corpus = jsonl(folder / "corpus.jsonl", DIFFICULT)
    corpus.write_bytes(corpus.read_bytes() + b"\n".join(BROKEN) + b"\n")
    return folder / "bank", encode(corpus, folder / "bank")


def test_rejected_documents_are_counted_and_the_exit_code_says_so(difficult):
    _, (code, summary, _) = difficult
    assert code == 1
    assert (summary["documents"], summary["rejected"], summary["duplicates"]) == (len(DIFFICULT), 6, 1)


def test_every_rejection_names_its_line_and_its_reason(difficult):
    reasons = {r.source.removeprefix("corpus.jsonl:"): r.reason for r in rejected(Bank.open(difficult[0]))}
    assert set(reasons) == {"6", "7", "8", "9", "10", "12"}
    assert reasons["6"].startswith("malformed JSON")
    assert reasons["7"].startswith("line is not valid UTF-8 at byte")
    assert reasons["8"] == "column 'text' is missing; found id, body"
    assert reasons["9"] == "text is a number: wanted a string"
    assert reasons["10"] == "text is empty or only white space"
    assert reasons["12"] == "the id 'moon' stands at corpus.jsonl:1 already, with another text"


def test_difficult_texts_are_recalled_exactly_and_nothing_else_is(difficult):
    assert recalled(difficult[0]) == DIFFICULT


def test_no_chunk_begins_with_a_mark_or_a_joiner(difficult):
    text = DIFFICULT["borders"]
    starts = [row["char_start"] for row in rows(Bank.open(difficult[0]), "doc_id", "char_start")
              if row["doc_id"] == "borders"]  # fmt: skip
    assert len(starts) > 10 and not {text[start] for start in starts} & set("\u0301\u0323\u200d👧👦")


def test_what_an_encoder_rejected_is_encoded_when_it_is_asked_for_and_counted_as_held_only_then(ray_session, tmp_path):
    """A bank as a broken machine left it: its unit is finished, and one of three documents is in a list."""
    corpus, path = jsonl(tmp_path / "corpus.jsonl", {"a": "One.", "b": "Two.", "c": "Three."}), tmp_path / "bank"
    assert encode(corpus, path)[0] == 0
    bank = Bank.open(path)
    removed, kept = without_documents(bank, {"b"})
    assert swap(bank, [*remove_actions(removed), *add_actions(kept)], {})
    (unit,) = bank.finished_units()
    lost = {
        "source": "corpus.jsonl:2",
        "doc_id": "b",
        "reason": "encoding it failed: RuntimeError: CUBLAS",
        "excerpt": "",
    }
    bank.folder.put(f"_rejected/{unit}.jsonl", json.dumps(lost).encode() + b"\n")
    _, summary, _ = encode(corpus, path)
    assert (summary["documents"], summary["held"]) == (0, 2)
    code, summary, _ = encode(corpus, path, "--retry-rejected")
    assert (code, summary["documents"], summary["held"], summary["failures"]) == (0, 1, 2, [])
    assert recalled(path) == {"a": "One.", "b": "Two.", "c": "Three."} and list(rejected(Bank.open(path))) == []
    _, summary, _ = encode(corpus, path, "--retry-rejected")
    assert (summary["documents"], summary["held"]) == (0, 3)


def test_what_was_forgotten_is_left_out_of_a_grown_corpus_and_counted_by_the_dry_run_and_the_job(ray_session, tmp_path):
    texts, path = {"a": "One.", "b": "Two.", "c": "Three."}, tmp_path / "bank"
    assert encode(jsonl(tmp_path / "corpus.jsonl", texts), path)[::2] == (0, "")
    forget(Bank.open(path), ["b"])
    corpus = jsonl(tmp_path / "corpus.jsonl", texts | {"b": "Another.", "d": "Four."})
    asked = ("encode", str(corpus), str(path), "--dry-run", "--set", "chunks_per_second=1")
    assert "0 rejected, 0 duplicates, 1 forgotten\n" in CliRunner().invoke(main, asked).stdout
    code, summary, _ = encode(corpus, path)
    assert (code, summary["documents"], summary["held"], summary["forgotten"]) == (0, 1, 2, 1)
    assert recalled(path) == {"a": "One.", "c": "Three.", "d": "Four."}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KB, where this user may mount one."""
    try:
        with SmallDisk(tmp_path / "disk", size="256k") as disk:
            yield disk.folder
    except NoSmallDiskError as error:
        pytest.skip(str(error))


def test_a_full_disk_ends_the_job_with_one_line_and_a_whole_bank(ray_session, small_disk):
    code, summary, stderr = encode(SAMPLES, small_disk / "bank", "--set", "unit_chunks=32", "--set", "commit_seconds=0")
    assert (code, summary) == (1, None)
    assert "No space left on device" in stderr and stderr.count("\n") == 1
    assert os.path.exists(small_disk / "bank" / "_delta_log") and first_problems(Bank.open(small_disk / "bank")) == []


def test_what_ray_says_of_lost_nodes_is_not_printed_among_results(ray_session, capsys):
    from ray._private.worker import print_to_stdstream

    print_to_stdstream({"lines": ["a node is dead"], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    assert capsys.readouterr().out == ""


def test_a_job_in_which_nothing_moves_ends_with_one_line_and_goes_on_when_started_again(ray_session, tmp_path):
    corpus, bank = jsonl(tmp_path / "one.jsonl", {"fox": "The quick brown fox."}), tmp_path / "bank"
    code, summary, stderr = encode(corpus, bank, "--set", "stall_minutes=0")
    assert (code, summary) == (1, None) and stderr.count("\n") == 1
    assert "nothing was encoded or committed for 0 minutes; no encoder has begun a unit" in stderr
    code, summary, _ = encode(corpus, bank)
    assert code == 0 and summary["documents"] == 1
