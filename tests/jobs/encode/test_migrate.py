"""`nextmem migrate` on Ray: to a codec of other sizes, then again, then with more in the old bank.

What is refused, and how it goes on, is in tests/pipeline/encode/test_migrate_work.py; a codec's other precision here.
"""

from __future__ import annotations

import pytest
from works import ARTICLES

import nextmem as face
from model.backbone import load_backbone
from model.codec_io import save_codec
from model.config import CodecConfig
from model.untrained import untrained_codec

pytestmark = pytest.mark.ray
HERE = {"actors": 1, "gpus": False, "unit_chunks": 4}


@pytest.fixture(scope="module")
def new_codec(tmp_path_factory):
    config = CodecConfig(chunk_tokens=20, num_latents=2)
    codec = untrained_codec(load_backbone("tiny-llama", precision="fp32", device="cpu"), config)
    return save_codec(codec, tmp_path_factory.mktemp("codec") / "new")


def test_a_bank_is_migrated_once(ray_session, articles, new_codec, tmp_path, nextmem):
    with face.open(articles) as bank:
        done = bank.migrate(tmp_path / "new", codec=new_codec, precision="fp32", **HERE)
        assert done.complete and (done.documents, done.lacking, done.records) == (3, 0, 1)
        with face.open(tmp_path / "new") as new:
            assert {doc_id: new.recall(doc_id=doc_id) for doc_id in ARTICLES} == ARTICLES
            assert new.info().identity.num_latents == 2 and new.verify().whole
            assert new.history()[-1].done == "migrate"
    options = ("--actors", 1, "--no-gpus", "--set", "unit_chunks=4", "--json")
    ran = nextmem("migrate", articles, tmp_path / "new", *options)
    summary, migrated = ran.records[-2:]
    assert (ran.code, summary["documents"], summary["held"], migrated["records"]) == (0, 0, 3, 0)


def test_into_itself_or_a_bank_of_another_codec_is_refused(ray_session, articles, new_codec, refused):
    assert "cannot be migrated into itself" in refused("migrate", articles, articles, "--codec", new_codec)
