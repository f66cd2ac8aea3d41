"""Encoding and training from Python: the whole way from a corpus to an export, and what a caller keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from works import ARTICLES, jsonl

import nextmem

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return jsonl(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", ARTICLES, topic=["animals", "places", "places"])


@pytest.mark.ray
def test_a_corpus_is_encoded_found_recalled_read_exported_and_verified(ray_session, corpus, tmp_path, capfd):
    seen = []
    settings = {"backbone": "tiny-llama", "columns": ["topic"], "unit_chunks": 4, "num_latents": 3, "precision": "fp32"}
    report = nextmem.encode(corpus, tmp_path / "bank", on_progress=seen.append, actors=1, gpus=False, **settings)
    assert report.complete and report.summary.documents == 3 and seen[-1].chunks == report.summary.chunks
    with nextmem.open(tmp_path / "bank") as bank:
        assert {hit.doc_id for hit in bank.search("the fox", filter={"topic": "places"})} == {"tokyo", "marks"}
        assert {doc_id: bank.recall(doc_id=doc_id) for doc_id in ARTICLES} == ARTICLES
        (best,) = bank.search(ARTICLES["tokyo"], k=1)
        assert best.text in ARTICLES[best.doc_id]
        assert bank.latents([best.chunk_id]).values.shape == (1, 3, 64)
        bank.export(tmp_path / "out")
        assert bank.verify().whole
    assert set(pq.read_table(tmp_path / "out" / "data")["topic"].to_pylist()) == {"animals", "places"}
    again = nextmem.encode([corpus], tmp_path / "bank", columns=["topic"], actors=1, gpus=False)
    assert (again.summary.documents, again.summary.held) == (0, 3)
    assert capfd.readouterr() == ("", "")  # nothing is printed unless it is asked for


SCRIPT = """
import json, os, signal, sys

mine = lambda number, frame: None
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, mine)
interrupt = signal.getsignal(signal.SIGINT)
import nextmem

before = dict(os.environ)
nextmem.Bank, nextmem.Codec
assert dict(os.environ) == before, "importing changed the environment"
report = nextmem.encode(sys.argv[1], sys.argv[2], backbone="tiny-llama", chunk_tokens=32, num_latents=3, actors=1)
kept = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)] == [mine, mine]
kept = kept and signal.getsignal(signal.SIGINT) is interrupt
set_now = {name: os.environ.get(name) for name in ("TOKENIZERS_PARALLELISM", "RAY_ENABLE_AUTO_CONNECT")}
print(json.dumps({"complete": report.complete, "kept": kept, **set_now}))
"""


@pytest.mark.ray
def test_a_script_needs_nothing_set_and_keeps_its_signal_handlers(corpus, tmp_path):
    """Without `if __name__ == "__main__"`, with a cache named by a relative path."""
    (tmp_path / "script.py").write_text(SCRIPT)
    unset = ("TOKENIZERS_PARALLELISM", "RAY_ENABLE_AUTO_CONNECT", "RAY_ADDRESS", "TRANSFORMERS_VERBOSITY")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "script.py", str(corpus), "bank"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT), "NEXTMEM_CACHE": "cache", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "complete": True,
        "kept": True,
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_ENABLE_AUTO_CONNECT": "0",
    }
    assert (tmp_path / "cache").is_dir()


@pytest.mark.parametrize("name, hint", [("unit_chunk", "unit_chunks"), ("refine_mots", "refine_most")])
def test_a_misspelt_setting_of_encode_is_a_type_error_with_a_hint(corpus, tmp_path, name, hint):
    with pytest.raises(TypeError, match=f"there is no setting '{name}': did you mean {hint}?"):
        nextmem.encode(corpus, tmp_path / "bank", **{name: 4})
    assert not (tmp_path / "bank").exists()


def test_refining_without_verifying_is_refused(corpus, tmp_path):
    with pytest.raises(nextmem.Refusal, match="refine needs verifying"):
        nextmem.encode(corpus, tmp_path / "bank", refine="auto", verify=False)


def test_a_corpus_that_is_not_there_is_refused_and_nothing_is_left(tmp_path, tiny_codec_folder):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl does not exist"):
        nextmem.encode(tmp_path / "nowhere.jsonl", tmp_path / "bank", codec=tiny_codec_folder)
    assert not (tmp_path / "bank").exists()


def test_a_misspelt_setting_of_train_is_a_type_error_with_a_hint(corpus, tmp_path):
    with pytest.raises(TypeError, match="no setting 'batchsize': did you mean batch_size"):
        nextmem.train(tmp_path / "run", data=corpus, backbone="tiny-llama", ray=False, batchsize=4)
    assert not (tmp_path / "run").exists()
