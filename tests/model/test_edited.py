"""A memory that is to stand for another text, by each of the three methods. The decoder knows its few texts."""

from __future__ import annotations

import numpy as np
import pytest
from memories import assert_exact, stored
from overfitted import text_chunks

from model.edit import METHODS, PATCH, REFINE, edited, require_method
from model.refusal import Refusal


@pytest.fixture(scope="module")
def texts(trained):
    """Eight chunks and what they are to become: the word that stands fourth is another one's."""
    chunks = text_chunks(trained.backbone)
    words = [trained.tokenizer.decode(chunk).split(" ") for chunk in chunks]
    new = [" ".join([*mine[:3], other[3], *mine[4:]]) for mine, other in zip(words, words[1:] + words[:1], strict=True)]
    return chunks, [np.array(trained.tokenizer.encode(text), dtype=np.int32) for text in new]


@pytest.mark.parametrize("method", METHODS)
def test_recall_is_exact_whatever_the_method(trained, texts, method):
    chunks, new = texts
    memories = edited(trained, trained.memorise(chunks), new, method, steps=2)
    assert_exact(trained, [stored(*each) for each in zip(memories, new, strict=True)], new, 4)


def test_a_patch_touches_nothing_but_the_patch(trained, texts):
    chunks, new = texts
    before = trained.memorise(chunks)
    after = edited(trained, before, new, PATCH)
    assert [(m.codes, m.scales) for m in after] == [(m.codes, m.scales) for m in before]
    assert all((a.embedding_E == b.embedding_E).all() for a, b in zip(after, before, strict=True))
    assert sum(len(m.patch) for m in after) > sum(len(m.patch) for m in before)


def test_refining_towards_the_new_text_needs_less_patch_than_a_patch_alone(trained, texts):
    chunks, new = texts
    before = trained.memorise(chunks)
    patched, refined = edited(trained, before, new, PATCH), edited(trained, before, new, REFINE, steps=10)
    assert sum(len(m.patch) for m in refined) < sum(len(m.patch) for m in patched)
    fresh = trained.memorise(new)
    assert all(np.allclose(a.embedding_E, b.embedding_E) for a, b in zip(refined, fresh, strict=True))


def test_another_method_is_refused(trained):
    with pytest.raises(Refusal, match="no method 'pray' of editing: wanted encode, refine, patch"):
        require_method("pray")
