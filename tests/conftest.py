"""What several test folders share: a tiny codec and one Ray session."""

from __future__ import annotations

import logging

import pytest

LATENTS, WIDTH, CHUNK_TOKENS = 3, 64, 32  # of the tiny codec; its tokens are bytes


@pytest.fixture(scope="session")
def tiny_codec_folder(tmp_path_factory):
    """An untrained codec on the two-layer Llama: chunks of at most 32 bytes, 3 latents of width 64."""
    from model.backbone import load_backbone
    from model.checkpoint import save_codec
    from model.config import CodecConfig
    from model.untrained import untrained_codec

    config = CodecConfig(chunk_tokens=CHUNK_TOKENS, num_latents=LATENTS)
    codec = untrained_codec(load_backbone("tiny-llama", precision="fp32", device="cpu"), config)
    return save_codec(codec, tmp_path_factory.mktemp("codec") / "tiny")


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory):
    """One Ray for all tests, with two GPUs that are not there; jobs find it running and leave it alone."""
    import ray

    from jobs.cluster import quiet, runtime_env

    quiet()
    ray.init(
        "local",
        num_cpus=6,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env=runtime_env(tmp_path_factory.mktemp("ray")),
    )
    yield
    ray.shutdown()
