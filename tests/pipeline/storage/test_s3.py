"""Banks on a real S3 server: the same verbs as on a disk, commits safe against two writers, failing requests borne."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from banks import IDENTITY, codecs_of, held, race, receipt, vacuum
from deltalake.exceptions import CommitFailedError
from object_store import KEY, SECRET

from model.codec_folder import READER, READER_TENSORS, SETTINGS, TENSORS
from model.reader import add_reader, has_reader
from pipeline.bank.bank import Bank
from pipeline.bank.bring_back import bring_back
from pipeline.bank.codec_copy import local_codec
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.forget import forget
from pipeline.bank.info import info
from pipeline.bank.lookup import by_doc_id
from pipeline.bank.problems import first_problems
from pipeline.bank.rejected import write_rejected
from pipeline.bank.tend import tend
from pipeline.bank.upkeep import compact, drop
from pipeline.corpus import spool
from pipeline.corpus.documents import ColumnRoles
from pipeline.export.export import export
from pipeline.plan.plan import plan_corpus
from pipeline.plan.units import read_unit
from pipeline.storage import storage
from pipeline.storage.folder import Folder, folder_hash
from pipeline.storage.s3_errors import explained

pytestmark = pytest.mark.store

BIG = 25_000_000  # bytes: an upload in three parts


@pytest.fixture
def uri(place):
    return f"s3://{place}/bank"


@pytest.fixture
def bank(uri):
    return Bank.create(uri, IDENTITY)


@pytest.fixture
def proxy(object_store):
    return object_store.proxy


def nth(*numbers, of=lambda request: True, fault):
    """A fault for the n-th matching requests."""
    seen = []

    def ask(request):
        if of(request):
            seen.append(request)
            return fault if len(seen) in numbers else None
        return None

    return ask


def is_commit(request):
    return request.method == "PUT" and "/_delta_log/" in request.path and request.path.endswith(".json")


def is_upload(request):
    return request.is_upload


def failure(call):
    """The one line for what `call` raises."""
    with pytest.raises((OSError, ValueError)) as caught:
        call()
    line = explained(caught.value) or str(caught.value)
    assert "\n" not in line and "\x1b" not in line and SECRET not in str(caught.value)
    return line


def test_a_bank_on_s3_is_made_extended_replaced_deleted_compacted_and_vacuumed(uri, tmp_path):
    codec = tmp_path / "codec"
    codec.mkdir()
    (codec / "weights").write_bytes(b"w")
    bank = Bank.create(uri, IDENTITY, codec=codec)
    write_rejected(bank.folder, "u1", [])
    commit(bank, [receipt(bank, "u1", {"a": 3, "b": 2})])
    commit(bank, [receipt(bank, "u2", {"a": 1}, text="v2", replaces=("a",))])
    commit(bank, [receipt(bank, "u3", {"c": 1})])
    assert held(bank) == {"a": 1, "b": 2, "c": 1} and bank.folder.read(f"_codec/{folder_hash(codec)}/weights") == b"w"
    assert forget(bank, ["c"]).chunks == 1
    assert by_doc_id(bank, "b")["position"].to_pylist() == [0, 1]
    assert bank.finished_units([f"u{number}" for number in range(30)]) == {"u1", "u2", "u3"}
    assert compact(bank) == 2
    assert len(vacuum(bank)) == 4
    assert first_problems(bank) == [] and info(bank).chunks == 3 and held(bank) == {"a": 1, "b": 2}


def test_what_is_forgotten_on_s3_stays_gone_comes_back_and_leaves_every_file(bank):
    commit(bank, [receipt(bank, "u1", {"anna-0042": 2, "b": 1}), receipt(bank, "u2", {"c": 1})])
    bank.folder.put("_plan/a.plan.parquet", b"anna-0042")
    forget(bank, ["anna-0042"])
    assert bring_back(bank).chunks == 2 and held(bank) == {"anna-0042": 2, "b": 1, "c": 1}
    job, late = Bank.open(bank.folder.uri), receipt(bank, "u3", {"anna-0042": 1, "d": 1}, text="v2")
    forget(bank, ["anna-0042"])
    assert commit(job, [late]).receipts[0].forgotten == 1
    tend(bank, orphan_hours=1, version_hours=168, now=True)
    assert held(bank) == {"b": 1, "c": 1, "d": 1} and first_problems(Bank.open(bank.folder.uri)) == []
    assert list(Bank.open(bank.folder.uri).forgotten().among(["anna-0042", "b"])) == ["anna-0042"]
    names = bank.folder.names(recursive=True)
    assert not [name for name in names if b"anna-0042" in bank.folder.read(name)]
    assert sum(name.endswith(".parquet") for name in names) == len(bank.files()) + 1  # and the checkpoint


def test_a_listing_of_s3_is_sorted_by_full_path(place, object_store):
    paths = sorted(["a/z.txt", "a.txt", "a/b/c.txt", "b.txt", "a-b/x.txt"])
    for path in paths:
        object_store.put(f"{place}/{path}", "x")
    assert [entry.uri for entry in storage.listing(f"s3://{place}")] == [f"s3://{place}/{path}" for path in paths]


def test_a_packed_corpus_on_s3_is_unpacked_once_into_frames_that_units_are_read_from(place, monkeypatch):
    monkeypatch.setattr(spool, "WORTH_BYTES", 0)
    monkeypatch.setattr(spool, "FRAME_BYTES", 1000)
    lines = "".join(json.dumps({"id": f"d{n}", "text": f"Document {n}. " * 20}) + "\n" for n in range(30))
    storage.write_whole(f"s3://{place}/corpus/a.jsonl.gz", gzip.compress(lines.encode()))
    plan = plan_corpus([f"s3://{place}/corpus"], ColumnRoles(), unit_chunks=2, folder=f"s3://{place}/bank/_plan")
    units = list(plan.units())
    storage.delete(f"s3://{place}/corpus/a.jsonl.gz")  # nobody needs it any more
    found = [document.doc_id for unit in units for document in read_unit(unit, plan.columns)]
    assert len(units) > 10 and sorted(found) == sorted(f"d{n}" for n in range(30))
    spool.remove_spools(Folder(f"s3://{place}/bank"), "_plan")
    assert [name.endswith(".plan.parquet") for name in Folder(f"s3://{place}/bank").names("_plan")] == [True]


def test_export_to_s3_is_whole_and_refuses_a_folder_that_holds_anything(bank, place, object_store):
    commit(bank, [receipt(bank, "u1", {"a": 3, "b": 2})])
    exported = export(bank, f"s3://{place}/out")
    assert object_store.names(f"{place}/out") == ["__about__/README.md", "__about__/bank.json", *exported.files]
    with object_store.files.open_input_file(f"{place}/out/{exported.files[0]}") as file:
        assert pq.read_table(file)["doc_id"].to_pylist() == ["a"] * 3 + ["b"] * 2
    with pytest.raises(FileExistsError, match=f"s3://{place}/out is not empty"):
        export(bank, f"s3://{place}/out")


@pytest.mark.parametrize("out", ["bank", "bank/out", "bank/a/b", "file"])
def test_an_export_into_a_bank_or_onto_a_file_is_refused_and_leaves_nothing(bank, place, object_store, out):
    object_store.put(f"{place}/file", "precious")
    before = object_store.names(place)
    with pytest.raises(FileExistsError, match=r"outside of any bank|is a file"):
        export(bank, f"s3://{place}/{out}")
    assert object_store.names(place) == before


def test_an_export_that_fails_leaves_nothing(bank, place, object_store, proxy):
    commit(bank, [receipt(bank, "u1", {"a": 3})])
    with proxy.failing(lambda request: "503" if "README.md" in request.path else None), pytest.raises(OSError):
        export(bank, f"s3://{place}/out")
    assert object_store.names(f"{place}/out") == []


# --- the environment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("endpoint", "region"), [
    ("AWS_ENDPOINT_URL", "AWS_REGION"), ("AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"), ("AWS_ENDPOINT_URL", None),
])  # fmt: skip
def test_both_clients_take_the_same_variables(place, proxy, monkeypatch, endpoint, region):
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv(endpoint, proxy.url)
    if region:
        monkeypatch.setenv(region, "eu-other-2")
    with proxy.counting() as requests:
        bank = Bank.create(f"s3://{place}/bank", IDENTITY)
        commit(bank, [receipt(bank, "u1", {"a": 1})])
    scopes = {each.headers["authorization"].split("Credential=")[1].split("/")[2] for each in requests}
    assert scopes == {"eu-other-2" if region else "us-east-1"}
    assert {"aws-sdk-cpp", "object_store"} <= {each.headers["user-agent"].split("/")[0] for each in requests}


def test_an_endpoint_for_s3_alone_goes_before_the_general_one(place, proxy, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    commit(bank := Bank.create(f"s3://{place}/bank", IDENTITY), [receipt(bank, "u1", {"a": 1})])


def test_both_clients_take_a_profile(place, tmp_path, monkeypatch):
    file = tmp_path / "credentials"
    file.write_text(f"[work]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "work")
    commit(bank := Bank.create(f"s3://{place}/bank", IDENTITY), [receipt(bank, "u1", {"a": 1})])
    assert held(bank) == {"a": 1}


def test_both_clients_send_the_session_token(place, proxy, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    tokens = {}
    with proxy.counting() as requests:
        for call in (lambda: storage.exists(f"s3://{place}/x"), lambda: _delta(f"s3://{place}/x")):
            with pytest.raises(OSError):  # the server knows no such session
                call()
    for each in requests:
        tokens.setdefault(each.headers["user-agent"].split("/")[0], each.headers.get("x-amz-security-token"))
    assert tokens == {"aws-sdk-cpp": "a-token", "object_store": "a-token"}


def _delta(uri):
    from deltalake import DeltaTable

    from pipeline.storage.s3 import delta_options

    return DeltaTable(uri, storage_options=delta_options(uri.split("/")[2]))


@pytest.mark.parametrize(("name", "value", "words"), [
    ("AWS_ENDPOINT_URL", "localhost:9000", "AWS_ENDPOINT_URL is no plain URL: give one such as"),
    ("AWS_ENDPOINT_URL", f"http://{KEY}:{SECRET}@host", "AWS_ENDPOINT_URL is no plain URL: give one such as"),
    ("AWS_MAX_ATTEMPTS", "often", "AWS_MAX_ATTEMPTS is often: wanted a whole number of at least 1"),
])  # fmt: skip
def test_a_variable_that_makes_no_sense_is_refused(uri, monkeypatch, name, value, words):
    monkeypatch.setenv(name, value)
    assert words in failure(lambda: Bank.open(uri))


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [Bank.open, storage.stat, local_codec, lambda uri: Bank.create(uri, IDENTITY)])
def test_a_bucket_that_is_not_there_is_named(object_store, call):
    assert "s3://no-such-bucket: there is no such bucket at http://127.0.0.1" in failure(
        lambda: call("s3://no-such-bucket/bank")
    )


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_refused_in_one_line(bank, monkeypatch, name):
    monkeypatch.setenv(name, "not-this-one")
    line = failure(lambda: Bank.open(bank.folder.uri))
    assert "access is denied. Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE" in line
    assert "not-this-one" not in line
    assert "Check AWS_ACCESS_KEY_ID" in failure(lambda: _delta(bank.folder.uri))  # delta-rs' own words


def test_no_credentials_at_all_are_refused_in_one_line(uri, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert "Check AWS_ACCESS_KEY_ID" in failure(lambda: Bank.open(uri))


def test_a_region_that_cannot_be_found_is_asked_for(monkeypatch, store_environment):
    """Without an endpoint it is AWS, which is asked through a proxy that is not there."""
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    line = failure(lambda: Bank.open("s3://some-bucket.invalid/bank"))
    assert line.startswith("s3://some-bucket.invalid: its region is not known") and line.endswith("Set AWS_REGION.")


@pytest.mark.parametrize("call", [Bank.open, storage.stat, lambda uri: Bank.create(uri, IDENTITY)])
def test_an_unknown_scheme_is_refused(call):
    assert "nope://bucket cannot be opened" in failure(lambda: call("nope://bucket/bank"))


# --- two writers ------------------------------------------------------------------------------------------------------


def test_a_commit_on_an_older_version_is_refused_and_decided_anew(bank):
    stale = Bank.open(bank.folder.uri)
    commit(bank, [receipt(bank, "u1", {"a": 2})])
    done = commit(stale, [receipt(stale, "u1", {"a": 2}), receipt(stale, "u2", {"b": 1})])
    assert (done.units, done.known) == (("u2",), ("u1",))
    assert held(bank) == {"a": 2, "b": 1} and first_problems(Bank.open(bank.folder.uri)) == []


def test_writers_at_once_never_double_a_row(bank):
    """Three writers commit the same eight units, one by one, as fast as they can."""
    receipts = [receipt(bank, f"u{number}", {f"doc-{number}": 2}) for number in range(8)]
    start, done = threading.Barrier(3), []

    def write(order):
        mine = Bank.open(bank.folder.uri)
        start.wait()
        done.extend(commit(mine, [receipts[number]]) for number in order)

    orders = (range(8), range(7, -1, -1), [3, 1, 4, 0, 5, 2, 6, 7])
    writers = [threading.Thread(target=write, args=(order,)) for order in orders]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(done) == 24
    assert held(bank) == {f"doc-{number}": 2 for number in range(8)}
    assert first_problems(Bank.open(bank.folder.uri)) == []


def test_writers_of_one_version_have_one_winner(bank):
    from deltalake import CommitProperties

    tables, start, won = [Bank.open(bank.folder.uri).table for _ in range(4)], threading.Barrier(4), []

    def write(table):
        start.wait()
        try:
            table.create_write_transaction(
                [], "append", bank.schema, commit_properties=CommitProperties(max_commit_retries=0)
            )
            won.append(table)
        except CommitFailedError:
            pass

    writers = [threading.Thread(target=write, args=(table,)) for table in tables]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(won) == 1 and Bank.open(bank.folder.uri).version == 1


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["503", "reset", "lost"])
def test_every_third_request_may_fail(bank, proxy, fault):
    with proxy.failing(lambda request: fault if request.number % 3 == 0 else None) as failed:
        for number in range(3):
            commit(bank, [receipt(bank, f"u{number}", {f"doc-{number}": 2})])
        assert first_problems(Bank.open(bank.folder.uri)) == []
    assert failed and held(bank) == {f"doc-{number}": 2 for number in range(3)}


@pytest.mark.parametrize("fault", ["503", "reset", "lost", "cut"])
def test_a_bank_whose_first_commit_fails_once_is_made(uri, proxy, fault):
    with proxy.failing(nth(1, of=is_commit, fault=fault)) as failed:
        bank = Bank.create(uri, IDENTITY)
    assert len(failed) == 1 and bank.version == 0 and bank.identity == IDENTITY
    commit(bank, [receipt(bank, "u1", {"a": 2})])
    assert held(bank) == {"a": 2}


@pytest.mark.parametrize("fault", [None, "lost"])
def test_of_two_that_make_a_bank_with_two_codecs_one_is_refused(uri, proxy, fault, tmp_path, monkeypatch):
    with proxy.failing(nth(1, of=is_commit, fault=fault)):
        ended = race(monkeypatch, uri, codecs_of(tmp_path, "a", "b"))
    (refusal,) = (each for each in ended if isinstance(each, str))
    bank = Bank.open(uri)
    assert "\n" not in refusal and "holds another codec's rows (codec_hash" in refusal
    name = bank.codec_path.rpartition("/")[2]
    assert bank.folder.names("_codec", recursive=True) == [f"_codec/{name}/codec.safetensors"]
    assert bank.folder.read(f"_codec/{name}/codec.safetensors").decode() == bank.identity.codec_hash


@pytest.mark.parametrize("fault", ["503", "reset", "lost", "cut"])
def test_a_commit_whose_put_fails_once_is_there_once(bank, proxy, fault):
    mine = receipt(bank, "u1", {"a": 2})
    with proxy.failing(nth(1, of=is_commit, fault=fault)) as failed:
        commit(bank, [mine])
    assert len(failed) == 1
    assert held(bank) == {"a": 2} and bank.version == 1 and Bank.open(bank.folder.uri).finished_units() == {"u1"}


@pytest.mark.parametrize("fault", ["503", "reset", "lost", "cut"])
def test_a_commit_that_cannot_be_put_says_so_and_can_be_repeated(bank, proxy, fault):
    mine = receipt(bank, "u1", {"a": 2})
    with proxy.failing(lambda request: fault if is_commit(request) else None) as failed:
        if fault == "lost":  # it is done, and found in the log
            assert commit(bank, [mine]).units == ("u1",)
        else:
            assert "_delta_log/00000000000000000001.json: the store" in failure(lambda: commit(bank, [mine]))
            assert held(bank) == {}
    assert 0 < len(failed) <= 3 * 4
    commit(Bank.open(bank.folder.uri), [mine])
    assert held(bank) == {"a": 2}


@pytest.mark.parametrize("fault", ["503", "reset", "lost", "cut"])
def test_a_deletion_whose_put_fails_once_says_what_it_did(bank, proxy, fault):
    commit(bank, [receipt(bank, "u1", {"a": 2, "b": 3})])
    with proxy.failing(nth(1, of=is_commit, fault=fault)) as failed:
        assert forget(bank, ["a"]).chunks == 2
    assert len(failed) == 1 and held(bank) == {"b": 3} and bank.version == 2


@pytest.mark.parametrize("fault", ["503", "reset", "lost", "cut"])
def test_files_dropped_by_a_put_that_fails_once_are_named(bank, proxy, fault):
    commit(bank, [receipt(bank, "u1", {"a": 2})])
    damaged = bank.files()
    with proxy.failing(nth(1, of=is_commit, fault=fault)) as failed:
        assert drop(bank, damaged) == damaged
    assert len(failed) == 1 and held(bank) == {} and bank.has_losses()


@pytest.mark.parametrize("fault", ["503", "reset", "lost", "cut"])
def test_files_joined_by_a_put_that_fails_once_are_counted(bank, proxy, fault):
    for name in "ab":
        commit(bank, [receipt(bank, f"u-{name}", {name: 2})])
    with proxy.failing(nth(1, of=is_commit, fault=fault)) as failed:
        assert compact(bank) == 2
    assert len(failed) == 1 and len(bank.files()) == 1 and held(bank) == {"a": 2, "b": 2}


def test_an_upload_cut_in_the_middle_is_tried_again(bank, proxy):
    with proxy.failing(nth(1, of=is_upload, fault="cut")) as failed:
        commit(bank, [receipt(bank, "u1", {"a": 2})])
    assert len(failed) == 1 and held(bank) == {"a": 2} and first_problems(bank) == []


def test_an_upload_that_is_always_cut_leaves_nothing_under_its_name(bank, object_store, proxy):
    with proxy.failing(lambda request: "cut" if request.is_upload else None) as failed:
        line = failure(lambda: receipt(bank, "u1", {"a": 2}))
    assert ".parquet: the store does not answer" in line and "run the same command again" in line
    assert len(failed) == 4  # AWS_MAX_ATTEMPTS
    assert [name for name in object_store.names(bank.folder.uri[5:]) if name.endswith(".parquet")] == []


@pytest.mark.parametrize("part", [1, 2, 3])
def test_an_upload_in_parts_that_is_cut_shows_nothing(place, object_store, proxy, part):
    cut = nth(*range(part, 100), of=lambda request: "partNumber=" in request.path, fault="cut")
    with proxy.failing(cut) as failed, pytest.raises(OSError):
        storage.write_whole(f"s3://{place}/bank/part.parquet", b"x" * BIG)
    assert failed and "part.parquet" not in object_store.names(f"{place}/bank")


def test_a_store_that_is_down_is_given_up_in_one_line(bank, proxy):
    with proxy.failing(lambda request: "503") as failed:
        line = failure(lambda: Bank.open(bank.folder.uri))
    assert "the store answers 503 SlowDown. It was tried as often as AWS_MAX_ATTEMPTS allows" in line
    assert len(failed) == 4


def test_a_store_that_is_not_there_is_given_up_in_one_line(bank, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    line = failure(lambda: Bank.open(bank.folder.uri))
    assert "the store does not answer (" in line and "onnect" in line


# --- how many requests ------------------------------------------------------------------------------------------------


def test_finding_what_is_finished_takes_no_request_a_unit(bank, proxy):
    commit(bank, [Receipt(f"u{number}") for number in range(200)])
    with proxy.counting() as requests:
        again = Bank.open(bank.folder.uri)
        assert len(again.finished_units([f"u{number}" for number in range(400)])) == 200
    assert len(requests) <= 12


def test_what_a_bank_holds_beside_known_units_takes_no_request_for_those(bank, proxy):
    commit(bank, [receipt(bank, f"u{number}", {f"doc-{number}": 1}) for number in range(20)])
    with proxy.counting() as requests:
        left = dict(bank.documents(but_of={f"u{number}" for number in range(19)}))
    assert list(left) == ["doc-19"] and len(requests) <= 5


def test_a_commit_of_many_units_takes_one_request_a_file_and_a_few(bank, proxy):
    receipts = [receipt(bank, f"u{number}", {f"doc-{number}": 1}) for number in range(20)]
    with proxy.counting() as requests:
        commit(bank, receipts)
    assert len(requests) <= 20 + 15


def test_a_small_file_is_one_put(bank, proxy):
    bank.folder.put("warm", b"up")
    with proxy.counting() as requests:
        bank.folder.put("part.parquet", b"x" * 100_000)
    assert [request.method for request in requests] == ["PUT"]


def test_the_secret_is_in_no_file_of_a_bank(bank, place, object_store):
    commit(bank, [receipt(bank, "u1", {"a": 2})])
    names = object_store.names(place)
    assert names and not [name for name in names if SECRET.encode() in object_store.read(f"{place}/{name}")]


def test_a_codec_is_fetched_with_the_reader_that_it_has(uri, tmp_path, monkeypatch, tiny_codec_folder):
    monkeypatch.setenv("NEXTMEM_CACHE", str(tmp_path / "cache"))
    Folder(uri).put_folder(tiny_codec_folder, "codec")
    assert not has_reader(bare := local_codec(f"{uri}/codec"))
    tensors = {"reader.layer": torch.zeros(2)}
    Folder(uri).put_folder(add_reader(tiny_codec_folder, tensors, tmp_path / "made", card="", reads="latents"), "codec")
    fetched = local_codec(f"{uri}/codec")
    assert fetched != bare and has_reader(fetched) and fetched == local_codec(f"{uri}/codec")
    for name in (SETTINGS, TENSORS, READER, READER_TENSORS):
        assert Path(fetched, name).read_bytes() == (tmp_path / "made" / name).read_bytes()
