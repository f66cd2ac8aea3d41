"""Systems behind the interface: what each makes of texts, and what it is called."""

from __future__ import annotations

import json

import numpy as np
import pytest
from harbour import PASSAGES

from jobs.evaluate.opened import open_systems
from jobs.evaluate.system import ABILITIES, Opening
from model.refusal import Missing, Refusal

TEXTS = [text for _, text, _, _ in PASSAGES[:5]]
TINY = Opening(backbone="tiny-llama", precision="fp32", refine=3)


@pytest.fixture(scope="module")
def forms(tiny_codec_folder):
    (dense, stored, refined), faults = open_systems([str(tiny_codec_folder)], TINY)
    assert faults == []
    return dense, stored, refined


def test_a_codec_has_three_rows_that_start_from_one_encoding(forms, tiny_codec_folder):
    dense, stored, refined = forms
    name = str(tiny_codec_folder)
    assert [row.name for row in forms] == [f"{name} dense", name, f"{name} refined 3"]
    assert dense.base is None and stored.base is refined.base is dense
    assert len({row.identity for row in forms}) == 3
    assert all(row.can <= set(ABILITIES) for row in forms)


def test_recall_is_exact_for_what_a_bank_would_store(forms):
    dense, stored, refined = forms
    before = dense.encode(TEXTS)
    for row in (stored, refined):
        memories = row.encode(TEXTS, before)
        assert row.recall(memories) == TEXTS
        assert all(memory.patch_bytes > 0 and 0 <= memory.fidelity <= 1 for memory in memories)


def test_nf4_is_near_the_dense_latents_and_takes_less_room(forms):
    dense, stored, _ = forms
    before = dense.encode(TEXTS)
    after = stored.encode(TEXTS, before)
    for a, b in zip(before, after, strict=True):
        error = np.linalg.norm(a.parts["latents"] - b.parts["latents"]) / np.linalg.norm(a.parts["latents"])
        assert 0 < error < 0.2 and b.stored_bytes < a.stored_bytes / 3 and b.patch_bytes is not None is not a.fidelity


def test_refining_costs_work_and_helps(forms):
    dense, stored, refined = forms
    before = dense.encode(TEXTS)
    plain, better = stored.encode(TEXTS, before), refined.encode(TEXTS, before)
    assert all(memory.work == 1 for memory in plain) and all(memory.work == 1 + 3 * 2.5 for memory in better)
    assert np.mean([m.fidelity for m in better]) >= np.mean([m.fidelity for m in plain])


def test_a_text_longer_than_a_chunk_has_latents_and_no_patch(forms):
    dense, stored, refined = forms
    long = " ".join(TEXTS)
    (before,) = dense.encode([long])
    (after,) = stored.encode([long], [before])
    assert after.parts["latents"].shape == before.parts["latents"].shape and after.patch_bytes is after.fidelity is None
    assert isinstance(stored.decode([after])[0], str) and "encode long" not in refined.can


def test_a_long_passage_has_a_vector_a_chunk_and_an_empty_one_none(forms):
    vectors = forms[1].embed([" ".join(TEXTS), TEXTS[0], ""])
    assert [len(each) for each in vectors] == [-(-len(" ".join(TEXTS)) // 192), 1, 0]
    assert np.linalg.norm(vectors[0], axis=1) == pytest.approx(1)


def test_text_memory_keeps_utf8(tmp_path):
    (text,), _ = open_systems(["text"], TINY)
    memories = text.encode(["Zürich", ""])
    assert text.decode(memories) == ["Zürich", ""] and memories[0].stored_bytes == 7


def test_bm25_ranks_by_words_and_a_query_of_stop_words_finds_nothing():
    (bm25,), _ = open_systems(["bm25"], TINY)
    scores = bm25.rank(["herring barrels", "of the"], [text for _, text, _, _ in PASSAGES])
    assert scores.shape == (2, 24) and scores[0].argmax() == 8 and not scores[1].any()


@pytest.mark.backbone
def test_minilm_loads_from_its_package_without_a_hub_and_without_a_bar(monkeypatch, capfd):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (minilm,), faults = open_systems(["minilm"], TINY)
    assert capfd.readouterr() == ("", "")
    assert faults == [] and minilm.about["model"] == "all-MiniLM-L6-v2" and minilm.identity.startswith("embedder ")
    asked = minilm.embed(["Which boat lost her nets?"], query=True)[0]
    cosines = [float(asked[0] @ each[0]) for each in minilm.embed([text for _, text, _, _ in PASSAGES])]
    assert int(np.argmax(cosines)) == 11


def test_a_folder_s_card_says_which_system_it_is(tmp_path):
    (tmp_path / "system.json").write_text(json.dumps({"system": "bm25"}))
    (found,), _ = open_systems([str(tmp_path)], TINY)
    assert found.kind == "bm25" and found.name == str(tmp_path)
    (tmp_path / "system.json").write_text(json.dumps({"system": "colbert"}))
    with pytest.raises(Refusal, match="names the system 'colbert'; this nextmem knows default"):
        open_systems([str(tmp_path)], TINY)
    (tmp_path / "system.json").write_text("{")
    with pytest.raises(Refusal, match="torn"):
        open_systems([str(tmp_path)], TINY)


def test_a_name_that_means_nothing_is_refused_and_a_broken_codec_is_a_fault(tiny_codec_folder, tmp_path):
    with pytest.raises(Missing, match="there is no system 'icea'"):
        open_systems(["icea"], TINY)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "codec.json").write_text("{")
    found, faults = open_systems([str(broken), "text"], TINY)
    assert [row.name for row in found] == ["text"] and faults[0][0] == str(broken)
