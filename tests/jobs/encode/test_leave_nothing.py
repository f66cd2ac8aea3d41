"""Whatever is refused leaves nothing: no folder of a bank, not even the ones above it, and nobody else's files lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil

import pytest
from works import jsonl

from jobs.cluster.session import Session
from model.config import VerifyConfig
from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.bank.create import CODEC
from pipeline.bank.identity import codec_identity
from pipeline.bank.leave_nothing import leaving_nothing
from pipeline.bank.presence import Presence, job_records
from pipeline.storage.folder import Folder


@pytest.fixture
def corpus(tmp_path):
    return jsonl(tmp_path / "corpus.jsonl", {"a": "Some text."})


@pytest.fixture
def identity(tiny_codec_folder):
    return codec_identity(tiny_codec_folder, VerifyConfig.of("fp32"))


@pytest.fixture
def no_room_for_files():
    """No file of this process may pass 3,000 bytes, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_codec_that_does_not_fit_leaves_no_folder(tmp_path, identity, tiny_codec_folder, no_room_for_files):
    with pytest.raises(OSError) as raised:
        Bank.create(tmp_path / "new" / "bank", identity, codec=tiny_codec_folder)
    assert raised.value.errno == errno.EFBIG and os.listdir(tmp_path) == []


def test_what_lay_in_the_folder_before_stays(tmp_path, identity, tiny_codec_folder, no_room_for_files):
    (tmp_path / CODEC).mkdir()
    (tmp_path / CODEC / "notes").write_text("mine")
    with pytest.raises(OSError):
        Bank.create(tmp_path, identity, codec=tiny_codec_folder)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["notes"]


def test_a_bank_is_left_as_it_is(tmp_path, identity, tiny_codec_folder):
    bank = Bank.create(tmp_path / "bank", identity, codec=tiny_codec_folder)
    with pytest.raises(Refusal), leaving_nothing(bank.folder, "_plan"):
        bank.folder.put("_plan/a", b"kept for the next run")
        raise Refusal("no")
    assert bank.folder.names("_plan") == ["_plan/a"] and Bank.open(tmp_path / "bank").count() == 0


def test_another_job_s_bank_that_came_meanwhile_is_left_as_it_is(tmp_path, identity, tiny_codec_folder):
    with pytest.raises(Refusal), leaving_nothing(Folder(tmp_path / "bank"), CODEC):
        Bank.create(tmp_path / "bank", identity, codec=tiny_codec_folder)
        raise Refusal("no")
    assert Folder(tmp_path / "bank").names(CODEC, recursive=True)


def torn(codec):
    (codec / "codec.json").write_text("{")


@pytest.mark.parametrize(
    "more",
    [["--set", "unit_chunks=0"], ["--columns", "nowhere"], ["--text-column", "body"], ["--backbone", "./nowhere"],
     ["--codec", "./nowhere"], ["--codec", "TORN"], ["--pool", "a"], ["--gpus"], ["--columns", "nested"]],
    ids=" ".join,
)  # fmt: skip
def test_encode_that_is_refused_leaves_no_folder(refused, tmp_path, tiny_codec_folder, more):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"id": "a", "text": "Some text.", "nested": {"x": [1]}}) + "\n")
    if more[-1] == "TORN":
        torn(shutil.copytree(tiny_codec_folder, tmp_path / "torn"))
        more = ["--codec", tmp_path / "torn"]
    codec = [] if more[0] in ("--codec", "--backbone") else ["--codec", tiny_codec_folder]
    refused("encode", corpus, tmp_path / "new" / "bank", *codec, *more)
    assert not (tmp_path / "new").exists()


def test_a_job_that_is_refused_is_not_remembered_by_the_bank(refused, articles, tmp_path):
    bank = shutil.copytree(articles, tmp_path / "bank")
    corpus = jsonl(tmp_path / "more.jsonl", {"b": "Text."}, year=[1990])
    refused("encode", corpus, bank, "--columns", "year")
    assert job_records(Folder(bank)) == []


def test_a_tend_beside_another_one_is_not_remembered_by_the_bank(refused, articles, tmp_path):
    bank = shutil.copytree(articles, tmp_path / "bank")
    with Presence(Folder(bank), "tend") as other:
        other.begin(state="tending")
        assert "`nextmem tend` is at work on" in refused("tend", bank)
        assert [record.job for record in job_records(Folder(bank))] == [other.record.job]


def test_a_ray_that_does_not_start_leaves_no_bank(nextmem, tmp_path, corpus, tiny_codec_folder, monkeypatch):
    monkeypatch.setattr(Session, "_init", lambda session, environment: unstartable())
    ran = nextmem("encode", corpus, tmp_path / "new" / "bank", "--codec", tiny_codec_folder)
    said = ["starting Ray on this machine", "nextmem: Ray could not be started on this machine"]
    assert (ran.code, ran.out, ran.err.splitlines()) == (1, "", said)
    assert not (tmp_path / "new").exists()


def unstartable():
    raise Refusal("Ray could not be started on this machine")
