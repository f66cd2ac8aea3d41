"""The commands from and to s3://, on Ray, against a real S3 server behind a proxy that can fail any request."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from object_store import KEY, SECRET

from jobs.cluster.session import runtime_env
from jobs.encode.encode import EncodeRequest, run_encode
from jobs.settings import EncodeSettings
from model.config import CodecConfig
from nextmem.cli import main
from pipeline.bank.bank import Bank
from pipeline.bank.problems import first_problems
from pipeline.corpus.documents import ColumnRoles

pytestmark = pytest.mark.ray

SAMPLES = Path(__file__).parents[3] / "samples" / "articles.jsonl"
TEXTS = {row["id"]: row["text"] for row in map(json.loads, SAMPLES.read_text().splitlines()[:8])}
FIRST = 6  # articles at first; the others come later
PRINTED: list[str] = []  # all that any command of this file printed


def run(*arguments):
    """(exit code, the JSON lines, stderr) of a command."""
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    PRINTED.extend((result.stdout, result.stderr))
    assert isinstance(result.exception, SystemExit | None), repr(result.exception)
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def encode(place, codec, *arguments):
    """(exit code, the summary or None, stderr)."""
    small = ("--actors", "1", "--set", "precision=fp32", "--set", "unit_chunks=24", "--set", "commit_seconds=0.2")
    code, records, stderr = run(
        "encode", f"s3://{place}/corpus", f"s3://{place}/bank", "--codec", codec, *small, *arguments
    )
    return code, next((record for record in records if record["event"] == "summary"), None), stderr


def recalled(bank):
    """{doc_id: text}; every row is exact."""
    code, rows, stderr = run("recall", bank, "--all")
    assert code == 0 and all(row["exact"] for row in rows), stderr
    texts: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row["char_start"]):
        texts[row["doc_id"]] = texts.get(row["doc_id"], "") + row["text"]
    return texts


def put_corpus(store, place, ids, name="articles.jsonl"):
    rows = (json.dumps({"id": doc_id, "text": TEXTS[doc_id]}) + "\n" for doc_id in ids)
    store.put(f"{place}/corpus/{name}", "".join(rows))


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEXTMEM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def codec(object_store, tiny_codec_folder):
    """The tiny codec, on the object store."""
    place = object_store.place()
    for path in tiny_codec_folder.iterdir():
        object_store.put(f"{place}/codec/{path.name}", path.read_bytes())
    return f"s3://{place}/codec"


@pytest.fixture(scope="module")
def first(ray_session, object_store, codec):
    """The bank of the first articles: (place, how its job ended)."""
    place = object_store.place()
    put_corpus(object_store, place, list(TEXTS)[:FIRST])
    return place, encode(place, codec)


@pytest.fixture(scope="module")
def grown(first, object_store, codec):
    """The same bank after a file of more articles came: (place, how its job ended)."""
    place, _ = first
    put_corpus(object_store, place, list(TEXTS)[FIRST:], "more.jsonl")
    return place, encode(place, codec)


def test_a_corpus_on_s3_becomes_a_bank_on_s3(first):
    _, (code, summary, stderr) = first
    assert (code, stderr) == (0, "")
    assert (summary["documents"], summary["rejected"]) == (FIRST, 0) and summary["units"] > 1


def test_a_grown_corpus_encodes_only_what_is_new(grown):
    _, (code, summary, _) = grown
    assert (code, summary["documents"], summary["held"]) == (0, len(TEXTS) - FIRST, FIRST)


def test_a_second_run_encodes_nothing_and_asks_little(grown, object_store, codec):
    place, _ = grown
    with object_store.proxy.counting() as requests:
        code, summary, _ = encode(place, codec)
    assert (code, summary["chunks"], summary["held"]) == (0, 0, len(TEXTS))
    assert len(requests) <= 80 and not [request for request in requests if request.is_upload]


def test_every_text_is_recalled_exactly(grown):
    assert recalled(f"s3://{grown[0]}/bank") == TEXTS


def test_search_info_and_verify_read_it(grown):
    bank = f"s3://{grown[0]}/bank"
    code, hits, _ = run("search", bank, next(iter(TEXTS.values()))[:30], "-k", "3", "--recall")
    assert code == 0 and len(hits) == 3 and all(hit["exact"] and hit["text"] in TEXTS[hit["doc_id"]] for hit in hits)
    code, [info], _ = run("info", bank)
    assert (code, info["uri"], info["documents"]) == (0, bank, len(TEXTS))
    code, [verdict], _ = run("verify", bank)
    assert (code, verdict["problems"], verdict["decoded"]) == (0, [], info["chunks"])


def test_it_is_exported_to_s3(grown, object_store):
    place, _ = grown
    code, [exported], _ = run("export", f"s3://{place}/bank", f"s3://{place}/out")
    assert code == 0 and exported["rows"] == Bank.open(f"s3://{place}/bank").count()
    assert object_store.names(f"{place}/out") == ["__about__/README.md", "__about__/bank.json", *exported["files"]]


def test_two_jobs_on_one_bank_at_once_leave_every_row_once(ray_session, object_store, codec):
    """Both have the same new documents to do; none is there twice, and neither job fails."""
    place = object_store.place()
    put_corpus(object_store, place, list(TEXTS)[:1])
    assert encode(place, codec)[0] == 0
    put_corpus(object_store, place, list(TEXTS)[:4])
    settings = EncodeSettings(precision="fp32", unit_chunks=24, commit_seconds=0.0)
    request = EncodeRequest(
        (f"s3://{place}/corpus",), f"s3://{place}/bank", ColumnRoles(), settings, CodecConfig(), actors=1
    )
    ended = []
    writers = [threading.Thread(target=lambda: ended.append(run_encode(request))) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [result.complete for result in ended] == [True, True]
    bank = Bank.open(f"s3://{place}/bank")
    assert first_problems(bank) == [] and sorted(doc_id for doc_id, _ in bank.documents()) == sorted(list(TEXTS)[:4])


def test_a_job_whose_requests_fail_now_and_then_ends_whole(ray_session, object_store, codec):
    """Every fifth request is answered with 503, every seventh is reset, every eleventh is done and its answer lost."""
    place, proxy = object_store.place(), object_store.proxy
    put_corpus(object_store, place, list(TEXTS)[:4])
    kinds = {5: "503", 7: "reset", 11: "lost"}
    with proxy.failing(
        lambda r: next((kind for every, kind in kinds.items() if r.number % every == 0), None)
    ) as failed:
        code, summary, stderr = encode(place, codec)
    assert (code, summary and summary["documents"]) == (0, 4), stderr
    assert len(failed) > 10 and first_problems(Bank.open(f"s3://{place}/bank")) == []


def test_uploads_cut_in_the_middle_are_done_again_and_never_seen(ray_session, object_store, codec):
    place, proxy, seen = object_store.place(), object_store.proxy, []
    put_corpus(object_store, place, list(TEXTS)[:4])

    def cut(request):
        if request.is_upload and "part-" in request.path:
            seen.append(request)
        return "cut" if request.is_upload and "part-" in request.path and len(seen) % 2 else None

    with proxy.failing(cut) as failed:
        code, summary, stderr = encode(place, codec)
    assert (code, summary and summary["documents"]) == (0, 4), stderr
    bank = Bank.open(f"s3://{place}/bank")
    assert len(failed) >= summary["units"] and first_problems(bank) == []
    assert sorted(bank.files()) == [name for name in object_store.names(f"{place}/bank") if name.startswith("part-")]


SINCE = {  # a part of the path of the last put that goes through
    "the plan": "/bank/_plan/",
    "the bank is there": "/bank/_delta_log/00000000000000000000.json",
    "the first commit": "/bank/_delta_log/00000000000000000001.json",
}


@pytest.mark.parametrize("since", SINCE)
def test_a_job_whose_store_goes_down_says_so_and_a_rerun_finishes(ray_session, object_store, codec, since):
    place, down = object_store.place(), threading.Event()
    put_corpus(object_store, place, list(TEXTS)[:4])

    def fault(request):
        if down.is_set():
            return "503"
        if request.method == "PUT" and SINCE[since] in request.path:
            down.set()  # this one still goes through
        return None

    with object_store.proxy.failing(fault):
        code, summary, stderr = encode(place, codec)
    assert (code, summary) == (1, None)
    assert stderr.startswith("nextmem: s3://") and stderr.count("\n") == 1, stderr
    assert "the store answers 503 SlowDown. It was tried as often as AWS_MAX_ATTEMPTS allows" in stderr
    held = 0 if since == "the plan" else Bank.open(f"s3://{place}/bank").count()
    code, summary, stderr = encode(place, codec)
    bank = Bank.open(f"s3://{place}/bank")
    assert (code, first_problems(bank)) == (0, []), stderr
    assert (held > 0) == (since == "the first commit") and summary["chunks"] == bank.count() - held
    assert sorted(doc_id for doc_id, _ in bank.documents()) == sorted(list(TEXTS)[:4])


@pytest.mark.parametrize(("corpus", "bank", "words"), [
    ("s3://no-such-bucket/corpus", "s3://{place}/bank", "s3://no-such-bucket: there is no such bucket at http://127."),
    ("s3://{place}/corpus", "s3://no-such-bucket/bank", "s3://no-such-bucket: there is no such bucket at http://127."),
    ("nope://x/corpus", "s3://{place}/bank", "nope://x cannot be opened"),
    ("s3://{place}/corpus", "nope://x/bank", "nope://x cannot be opened"),
    ("s3://{place}/nothing", "s3://{place}/bank", "/nothing does not exist: give a file, a folder"),
])  # fmt: skip
def test_a_place_that_is_not_there_is_refused_in_one_line(ray_session, object_store, codec, corpus, bank, words):
    place = object_store.place()
    put_corpus(object_store, place, list(TEXTS)[:1])
    code, _, stderr = run("encode", corpus.format(place=place), bank.format(place=place), "--codec", codec)
    assert code == 1 and words in stderr and stderr.count("\n") == 1, stderr


@pytest.mark.parametrize("command", [("info",), ("verify",), ("recall", "--all"), ("search", "words")])
def test_wrong_credentials_are_refused_in_one_line(first, monkeypatch, command):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    name, *rest = command
    code, records, stderr = run(name, f"s3://{first[0]}/bank", *rest)
    assert (code, records) == (1, []) and stderr.count("\n") == 1
    assert "access is denied. Check AWS_ACCESS_KEY_ID" in stderr and "not-the-secret" not in stderr


def test_no_credential_is_printed_or_stored_or_handed_to_ray(grown, object_store, tmp_path):
    place, _ = grown
    assert len(PRINTED) > 10 and not [text for text in PRINTED if SECRET in text or KEY in text]
    names = object_store.names(place)
    assert names and not [name for name in names if SECRET.encode() in object_store.read(f"{place}/{name}")]
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET and SECRET not in repr(runtime_env(tmp_path))
