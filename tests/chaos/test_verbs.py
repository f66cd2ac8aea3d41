"""A verb that is killed at each moment of its commit; `python -m benchmarks.chaos --only merge` and so on run more.

Migrating, which starts Ray, is in tests/jobs/encode/test_migrate.py.
"""

from __future__ import annotations

import shutil

import pytest
from works import Works, jsonl

from benchmarks.chaos.verbs import VERBS, Place, run_verb
from pipeline.bank.commit import commit
from pipeline.encode import encode_work

pytestmark = pytest.mark.chaos

SUBSET = ("merge", "restore")  # the others are killed where they are tested
CELLS = [(verb, moment) for verb in VERBS if verb.name in SUBSET for moment in verb.moments]


@pytest.fixture(scope="module")
def place(articles, tiny_codec_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs")
    (folder / "place").mkdir()
    shutil.copytree(articles, folder / "place" / "bank")
    corpus = jsonl(folder / "more.jsonl", {"cat": "The cat sleeps all day long, and all of the night as well."})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
        (folder / "made").mkdir()
        works = Works(folder / "made", tiny_codec_folder, corpus)
        commit(works.bank, [works.encode().receipt])
    shutil.copytree(works.bank.folder.uri, folder / "place" / "other")
    return Place(folder / "place", tiny_codec_folder)


@pytest.mark.parametrize(("verb", "moment"), CELLS, ids=[f"{verb.name} {moment}" for verb, moment in CELLS])
def test_it_is_all_or_nothing_and_again_it_is_whole(place, verb, moment):
    broken = run_verb(verb, place, moment)
    assert broken.whole, broken
    assert broken.between == ("after" if moment == "committed" else "before")
