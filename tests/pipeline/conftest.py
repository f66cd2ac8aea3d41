from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """What is this small is slower on several threads."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def codec(tiny_codec_folder):
    """The tiny codec, loaded once. Tests may not change it."""
    from works import VERIFYING

    from model.codec_io import load_codec

    return load_codec(tiny_codec_folder, verifying=VERIFYING, device="cpu")


@pytest.fixture
def works(tmp_path, tiny_codec_folder, monkeypatch):
    """works({id: text}, **options): a planned corpus and its two workers. The device's rate is not measured."""
    from works import Works, jsonl

    from pipeline.encode import encode_work

    monkeypatch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)

    def make(documents, *, metadata=None, **options):
        corpus = jsonl(tmp_path / "corpus.jsonl", documents, **(metadata or {}))
        return Works(tmp_path, tiny_codec_folder, corpus, metadata=tuple(metadata or ()), **options)

    return make
