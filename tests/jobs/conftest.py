from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from jobs.cli import main


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

    from pipeline import encode_work
    from pipeline.commit import commit

    folder = tmp_path_factory.mktemp("articles")
    works = Works(folder, tiny_codec_folder, jsonl(folder / "articles.jsonl", ARTICLES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
        commit(works.bank, [works.encode().receipt])
    return works.bank.folder.uri
