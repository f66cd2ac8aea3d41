"""`nextmem submit` from end to end: a cluster with a token, a head without CPUs, a Python that is not on its PATH."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from clusters import PATIENCE, ROOT, BreakingProxy, RayCluster
from runs import SHORT, passages, sets
from works import jsonl

from jobs.cluster.job_server import JobServer
from pipeline.bank.bank import Bank
from pipeline.bank.problems import first_problems

pytestmark = pytest.mark.ray

SAMPLES = ROOT / "samples" / "articles.jsonl"
COMMITS = 300  # seconds for the first few: a busy machine starts Ray slowly
PLENTY, FEW = 40_000, 40  # one-chunk documents: more than are encoded before the job is stopped; left for the second
TINY = ("--backbone", "tiny-llama", "--no-gpus")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict]:
        assert self.out, self.err
        return [json.loads(line) for line in self.out.splitlines()]


class Nextmem:
    """The command as a person runs it beside a cluster: another folder, the token in a file."""

    def __init__(self, folder: Path, cluster: RayCluster):
        (folder / "token").write_text(cluster.token + "\n")
        self.folder, self.cluster, self.said = folder, cluster, []

    def start(self, *words: object, **variables: str | None) -> subprocess.Popen:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder),
            "NEXTMEM_CACHE": str(self.folder / "cache"),
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_ADDRESS": self.cluster.url,
        }
        environment = {name: value for name, value in (environment | variables).items() if value is not None}
        return subprocess.Popen(
            [sys.executable, "-m", "nextmem.cli", *map(str, words)],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *words: object, **variables: str | None) -> Ended:
        return self.end(self.start(*words, **variables))

    def end(self, process: subprocess.Popen) -> Ended:
        out, err = process.communicate(timeout=PATIENCE)
        assert self.cluster.token not in out + err
        return Ended(process.returncode, out, err)

    def status(self, job_id: str) -> str:
        return {job["id"]: job["status"] for job in self("jobs", "--json").records}[job_id]


@pytest.fixture(scope="module")
def cluster():
    cluster = RayCluster()
    try:
        cluster.add_node(cpus=5, pool="cpu")
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def nextmem(cluster, tmp_path_factory):
    return Nextmem(tmp_path_factory.mktemp("user"), cluster)


@pytest.fixture(scope="module")
def story(nextmem):
    """Submitted, and again while it ran; followed and left; stopped; submitted once more and followed to its end."""
    bank, corpus = nextmem.folder / "bank", nextmem.folder / "corpus.jsonl"
    jsonl(corpus, {str(i): f"Document {i}." for i in range(PLENTY)})
    settings = (*TINY, *sets(unit_chunks=32, commit_seconds=0.2))
    encode = ("encode", corpus, bank, *settings)
    told = {"bank": bank, "first": nextmem("submit", "--json", "--", *encode)}
    told["again"] = nextmem("submit", "--", "encode", *settings, corpus, bank)
    job = told["first"].records[0]["id"]
    wait_for_commits(bank, 2, lambda: nextmem("logs", job).out)
    told["left"] = leave(nextmem, nextmem.start("logs", job, "--follow"))
    told["status_when_left"] = nextmem.status(job)
    told["stopped"] = nextmem("stop", job, "--json")
    told["held"] = documents(bank)
    rest = [str(i) for i in range(PLENTY) if str(i) not in told["held"]]
    jsonl(corpus, {i: f"Document {i}." for i in sorted(told["held"]) + rest[:FEW]})
    told["log"] = nextmem("logs", job)
    told["second"] = nextmem("submit", "--follow", "--", *encode)
    told["jobs"] = nextmem("jobs", "--json")
    return told


def wait_for_commits(bank: Path, wanted: int, log: Callable[[], str]) -> None:
    end = time.monotonic() + COMMITS
    while len(list(bank.glob("_delta_log/*.json"))) <= wanted:
        assert time.monotonic() < end, f"no commit came; the job's log: {log()}"
        time.sleep(0.1)


def leave(nextmem: Nextmem, process: subprocess.Popen) -> Ended:
    """Ctrl-C once the log has begun to show."""
    begun = process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    ended = nextmem.end(process)
    return Ended(ended.code, begun + ended.out, ended.err)


def documents(bank: Path) -> set[str]:
    """Ids of the documents held; fails where one is there twice."""
    found = [doc_id for doc_id, _ in Bank.open(bank).documents()]
    assert len(found) == len(set(found))
    return set(found)


def test_a_submission_tells_its_id_and_returns(story):
    (record,) = story["first"].records
    assert story["first"].code == 0 and re.fullmatch(r"encode-[0-9a-f]{10}-1", record["id"])
    assert record["event"] == "submitted" and record["command"].startswith("encode /")


def test_the_same_command_under_way_is_refused_however_its_options_are_ordered(story):
    job = story["first"].records[0]["id"]
    assert (story["again"].code, story["again"].out, story["again"].err.count("\n")) == (1, "", 1)
    assert f"already as {job}: `nextmem logs {job} --follow` shows it" in story["again"].err


def test_ctrl_c_leaves_the_log_and_not_the_job(story):
    job, left = story["first"].records[0]["id"], story["left"]
    assert left.code == 130 and "Traceback" not in left.err
    assert f"left the log; {job} goes on. `nextmem logs {job} --address" in left.err
    assert story["status_when_left"] == "RUNNING"


def test_a_stopped_job_has_committed_what_was_finished(story):
    assert story["stopped"].records[0]["status"] == "STOPPED"
    assert 0 < len(story["held"]) < PLENTY
    assert "stopped; what was finished is committed" in story["log"].out


def test_a_stopped_command_is_submitted_again_and_goes_on(story):
    second = story["second"]
    assert second.code == 0, second.out + second.err
    assert f"documents  {FEW} encoded, {len(story['held']):,} held already, 0 replaced" in second.out
    assert len(documents(story["bank"]) - story["held"]) == FEW and first_problems(Bank.open(story["bank"])) == []


def test_jobs_lists_both_submissions_with_their_command(story):
    job = story["first"].records[0]["id"]
    found = {record["id"]: record for record in story["jobs"].records}
    assert found[job]["status"] == "STOPPED" and found[job[:-1] + "2"]["status"] == "SUCCEEDED"
    assert found[job]["command"] == story["first"].records[0]["command"] and found[job]["started"]


def test_the_token_is_in_no_log_and_no_runtime_environment(story, cluster):
    assert all(cluster.token not in json.dumps(job) for job in cluster.get("/api/jobs/"))
    assert cluster.token not in story["log"].out


def test_a_log_whose_connection_breaks_off_is_shown_once(story, nextmem, cluster):
    job = story["first"].records[0]["id"]
    proxy = BreakingProxy(cluster.url)
    ended = nextmem("logs", job, "--follow", "--address", proxy.url)
    assert proxy.broken and ended.out == story["log"].out
    assert ended.code == 1 and f"{job} STOPPED; the same command goes on" in ended.err


def test_two_submissions_at_the_same_moment_are_one(cluster, monkeypatch):
    """Both have seen no earlier one, so both ask for the same id."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", cluster.url)
    server = JobServer(None)
    server.submit("echo", "echo", "encode-0123456789-1", {})
    with pytest.raises(FileExistsError, match="encode-0123456789-1 has just been submitted by another"):
        server.submit("echo", "echo", "encode-0123456789-1", {})


def test_what_a_job_refuses_is_shown_and_is_the_exit_code(nextmem):
    ended = nextmem("submit", "--follow", "--", "encode", "/nowhere.jsonl", nextmem.folder / "none", *TINY)
    assert ended.code == 1 and "/nowhere.jsonl does not exist: give a file" in ended.out
    assert re.search(r"encode-\w+-1 FAILED; the same command goes on where it stopped", ended.err)


def test_a_training_run_is_submitted_and_trained_to_its_end(nextmem):
    run, data = nextmem.folder / "run", passages(nextmem.folder)
    words = ("train", run, "--data", data, "--backbone", "tiny-llama", "--workers", 2, *sets(**SHORT))
    ended = nextmem("submit", "--follow", "--", *words)
    assert ended.code == 0, ended.out + ended.err
    assert (run / "codec" / "codec.json").is_file()
    again = nextmem("submit", "--follow", "--", *words)
    assert again.code == 0 and "is trained to its end" in again.out and "-2 SUCCEEDED" in again.err


def refusal(ended: Ended) -> str:
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1), ended
    return ended.err


def test_an_unknown_job_is_named(nextmem):
    for words in (("logs", "encode-0-1"), ("logs", "encode-0-1", "--follow"), ("stop", "encode-0-1")):
        assert "knows no job encode-0-1: `nextmem jobs` lists those it knows" in refusal(nextmem(*words))


def test_a_wrong_token_names_where_it_came_from(nextmem):
    line = refusal(nextmem("jobs", RAY_AUTH_TOKEN="0" * 32))
    assert "refuses the token of RAY_AUTH_TOKEN: put its own into RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH" in line


def test_a_missing_token_says_where_to_put_it(nextmem):
    line = refusal(nextmem("jobs", RAY_AUTH_TOKEN_PATH=None))
    assert "asks for a token and none was found: set RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH" in line


def test_encode_joins_the_cluster_by_its_address_and_will_not_take_cpus_for_gpus(nextmem, cluster):
    """RAY_ADDRESS=HOST:PORT from another shell; the token's mode need not be set by hand."""
    words = ("encode", SAMPLES, nextmem.folder / "joined", "--backbone", "tiny-llama")
    line = refusal(nextmem(*words, RAY_ADDRESS=cluster.address))
    assert "--gpus --actors N asks for N and waits for them, --no-gpus encodes on CPUs" in line
    line = refusal(nextmem(*words, "--gpus", RAY_ADDRESS=cluster.address))
    assert "say with --actors N how many to wait for" in line


def test_encoders_wait_for_gpus_and_run_only_on_nodes_of_their_pool(nextmem, cluster):
    """The cluster has no GPU at all, then one of another pool, then one of theirs, where two were asked for."""
    bank = nextmem.folder / "waited"
    corpus = nextmem.folder / "six.jsonl"
    corpus.write_text("".join(SAMPLES.read_text().splitlines(keepends=True)[:6]))
    fast = sets(precision="fp32", unit_chunks=32)  # these GPUs are not there
    words = ("encode", corpus, bank, "--backbone", "tiny-llama", "--gpus", "--actors", 2, "--pool", "encode", *fast)
    job = nextmem("submit", "--json", "--", *words).records[0]["id"]
    wait_for_log(nextmem, job, "waiting for 2 GPUs on nodes with the label pool=encode; 0 in the cluster now")
    cluster.add_node(cpus=2, gpus=1, pool="train")
    cluster.add_node(cpus=2, gpus=1, pool="encode")
    ended = nextmem("logs", job, "--follow")
    assert ended.code == 0, ended.out
    assert len(documents(bank)) == 6 and first_problems(Bank.open(bank)) == []
    pools = {node["node_id"]: node["labels"].get("pool") for node in cluster.listed("nodes")}
    encoders = [actor for actor in cluster.listed("actors") if "UnitEncoder" in actor["class_name"]]
    newest = max(actor["job_id"] for actor in encoders)
    placed = {pools[actor["node_id"]] for actor in encoders if actor["job_id"] == newest and actor["node_id"]}
    assert placed == {"encode"}


def wait_for_log(nextmem: Nextmem, job: str, wanted: str) -> None:
    end = time.monotonic() + PATIENCE
    while wanted not in (log := nextmem("logs", job).out):
        assert time.monotonic() < end and nextmem.status(job) in ("PENDING", "RUNNING"), log
        time.sleep(1)
