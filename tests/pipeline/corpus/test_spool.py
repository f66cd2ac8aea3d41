"""Packed JSONL is unpacked once, and its units cost what is in them."""

from __future__ import annotations

import gzip
import io
import json
import random

import pytest
import zstandard

from pipeline.corpus import frames, spool, unpack
from pipeline.corpus.corpus import Span, corpus_files
from pipeline.corpus.documents import ColumnRoles, Document, Rejected
from pipeline.corpus.readers import read_span
from pipeline.corpus.spool import remove_spools, spooled
from pipeline.plan.plan import plan_corpus
from pipeline.plan.units import read_unit
from pipeline.storage import storage
from pipeline.storage.folder import Folder

PACK = {".gz": gzip.compress, ".zst": zstandard.compress}


def text_of(number, words=200):
    return " ".join(str(random.Random(number).random()) for _ in range(words))


@pytest.fixture(params=PACK)
def packed(request, tmp_path, monkeypatch):
    """packed(lines): a file of one stream. Frames of a spool are of 4 KB, and every file is worth one."""
    monkeypatch.setattr(spool, "FRAME_BYTES", 4096)
    monkeypatch.setattr(spool, "WORTH_BYTES", 0)

    def make(count=40, keep=1.0):
        lines = [json.dumps({"id": f"d{n}", "text": text_of(n)}) + "\n" for n in range(count)]
        content = PACK[request.param]("".join(lines).encode())
        path = tmp_path / f"articles.jsonl{request.param}"
        path.write_bytes(content[: int(keep * len(content))])
        return path

    return make


@pytest.fixture
def unpacked_bytes(monkeypatch):
    """Counts what is unpacked of packed input files, not of spools."""
    counted = {"bytes": 0}

    class Counting(io.BufferedReader):
        def read1(self, size=-1):
            return self._counted(super().read1(size))

        def readline(self, size=-1):
            return self._counted(super().readline(size))

        def seek(self, offset, whence=0):
            counted["bytes"] += offset - self.tell()
            return super().seek(offset, whence)

        def _counted(self, found):
            counted["bytes"] += len(found)
            return found

    def counting(opened):
        return lambda *args, **kwargs: Counting(opened(*args, **kwargs))

    monkeypatch.setattr(unpack.gzip, "GzipFile", counting(gzip.GzipFile))
    monkeypatch.setattr(unpack, "_Unpacked", counting(unpack._Unpacked))
    return counted


def records(file):
    return [located.item for located in read_span(Span(file), ColumnRoles())]


def test_a_spool_reads_as_the_file_does(packed, tmp_path):
    (file,) = corpus_files([str(packed())])
    with_spool = spooled(file, str(tmp_path / "plan"))
    assert with_spool.spool and records(with_spool) == records(file)
    assert len(records(file)) == 40 and all(isinstance(item, Document) for item in records(file))


def test_a_spool_is_a_zst_file_that_others_read(packed, tmp_path):
    (file,) = corpus_files([str(packed())])
    with open(spooled(file, str(tmp_path)).spool, "rb") as stream, unpack.open_unpacked(file) as plain:
        assert zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True).read() == plain.read()


def test_any_byte_of_a_spool_can_be_reached(packed, tmp_path):
    (file,) = corpus_files([str(packed())])
    with unpack.open_unpacked(file) as plain:
        content = plain.read()
    with frames.open_frames(spooled(file, str(tmp_path)).spool) as stream:
        for offset in (0, 4095, 4096, 4097, len(content) - 1, len(content), 5000, 1):
            stream.seek(offset)
            assert stream.read(10_000) == content[offset : offset + 10_000]


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_of_a_torn_file_the_spool_keeps_what_there_is_and_says_why_it_ends(packed, tmp_path, keep):
    (file,) = corpus_files([str(packed(keep=keep))])
    found, wanted = records(spooled(file, str(tmp_path / "plan"))), records(file)
    assert isinstance(found[-1], Rejected) and "the file is torn here" in found[-1].reason
    assert found[: len(wanted) - 1] == wanted[:-1]
    assert found[-1].reason == wanted[-1].reason


def test_small_files_plain_ones_and_other_formats_have_none(tmp_path, monkeypatch):
    for name in ("a.jsonl", "b.txt.gz", "c.jsonl.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"{}") if name.endswith("gz") else b"{}")
    small, plain, text = (next(corpus_files([str(tmp_path / name)])) for name in ("c.jsonl.gz", "a.jsonl", "b.txt.gz"))
    assert spooled(small, str(tmp_path / "plan")) == small
    monkeypatch.setattr(spool, "WORTH_BYTES", 0)
    assert [spooled(file, str(tmp_path / "plan")) for file in (plain, text)] == [plain, text]
    assert not (tmp_path / "plan").exists()


def test_a_packed_file_is_unpacked_once_however_many_units_it_has(packed, tmp_path, unpacked_bytes):
    path = packed()
    with unpack.open_unpacked(next(corpus_files([str(path)]))) as stream:
        whole = len(stream.read())
    unpacked_bytes["bytes"] = 0
    plan = plan_corpus([str(path)], ColumnRoles(), unit_chunks=8, folder=str(tmp_path / "plan"))
    planned = unpacked_bytes["bytes"]
    documents = [item for unit in plan.units() for item in read_unit(unit, plan.columns)]
    assert plan.counts.units == len(documents) == 40
    assert unpacked_bytes["bytes"] == planned <= 2 * whole  # lines are looked at before: which columns there are


def test_a_unit_whose_spool_is_gone_reads_the_file(packed, tmp_path):
    plan = plan_corpus([str(packed())], ColumnRoles(), unit_chunks=8, folder=str(tmp_path / "plan"))
    units = list(plan.units())
    remove_spools(Folder(tmp_path), "plan")
    frames._index.cache_clear()  # another process's
    assert [path.suffixes for path in (tmp_path / "plan").iterdir()] == [[".plan", ".parquet"]]
    documents = [item for unit in units for item in read_unit(unit, plan.columns)]
    assert sorted(item.doc_id for item in documents) == sorted(f"d{n}" for n in range(40))


def test_a_plan_that_is_found_again_finds_its_spool(packed, tmp_path):
    path = packed()
    for _ in range(2):
        plan = plan_corpus([str(path)], ColumnRoles(), unit_chunks=8, folder=str(tmp_path / "plan"))
        assert storage.exists(next(plan.units()).spans[0].file.spool)
