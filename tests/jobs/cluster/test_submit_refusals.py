"""What `nextmem submit` refuses before it talks to a cluster, and what it says where there is none. No Ray starts."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading

import pytest

from jobs.cluster import job_server
from jobs.cluster.job_server import JobServer
from jobs.cluster.session import SUBMITTED, beside_the_job
from jobs.cluster.submit import Command
from jobs.cluster.token import find_token, join_with_token
from nextmem.commands.submit import SUBMITTABLE

WAITED = job_server.ANSWER_SECONDS  # to connect, to answer
NOWHERE = ("--address", "http://127.0.0.1:9")  # the discard port: nothing answers


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch, tmp_path):
    """A home without a token, a shell without Ray's variables, a folder of one's own."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def command(*words: str) -> Command:
    return Command(words, SUBMITTABLE[words[0]].make_context(words[0], list(words[1:])).params)


@pytest.mark.parametrize(
    "words, wanted",
    [
        (
            ["encode", "corpus", "s3://b/bank"],
            "corpus 'corpus' would be another place on the cluster: give s3://..., or",
        ),
        (["encode", "s3://b/c", "/nfs/c", "bank"], "bank 'bank' would be another place on the cluster"),
        (["encode", "hf:wikipedia", "/nfs/bank", "--codec", "codec"], "codec 'codec' would be another place"),
        (["encode", "s3://b/c", "s3://b/bank", "--backbone", "./model"], "backbone './model' would be another place"),
        (["encode", "s3://b/c", "s3://b/bank", "--backbone", "here"], "backbone 'here' would be another place"),
        (["train", "run", "--data", "/nfs/p"], "run 'run' would be another place on the cluster: give an absolute"),
        (["train", "s3://b/run", "--data", "/nfs/p"], "run 's3://b/run' would be another place"),
        (["train", "/nfs/run", "--data", "p.jsonl"], "data 'p.jsonl' would be another place on the cluster"),
        (["train", "/nfs/run", "--data", "s3://b/p"], "object stores hold corpora, banks and their codecs only"),
    ],
)
def test_a_path_that_means_another_place_on_the_cluster(refused, tmp_path, words, wanted):
    (tmp_path / "here").mkdir()
    assert wanted in refused("submit", *NOWHERE, "--", *words)


def test_paths_that_every_node_sees_reach_the_cluster(refused):
    words = ("encode", "s3://b/c", "hf:wikipedia", "/nfs/c", "s3://b/bank", "--backbone", "Qwen/Qwen3-8B")
    codec = ("--codec", "s3://b/codec")
    for command in (words, (*words, *codec)):
        assert refused("submit", *NOWHERE, "--", *command).startswith("no Ray answers at http://127.0.0.1:9 (")


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "db_password"])
def test_a_credential_is_not_passed_on_and_not_repeated(refused, name):
    line = refused("submit", *NOWHERE, "--env", f"{name}=hunter2", "--", "encode", "s3://b/c", "s3://b/bank")
    assert f"--env {name} looks like a credential" in line and "hunter2" not in line


@pytest.mark.parametrize("words", [["encode", "s3://b/c"], ["encode", "--colour", "a", "b"], ["info", "/b"], []])
def test_a_command_that_could_not_run_is_a_usage_error_here(nextmem, words):
    assert nextmem("submit", *NOWHERE, "--", *words).code == 2


@pytest.mark.parametrize("address", ["ray://head:10001", "head:6379", "auto"])
def test_an_address_that_is_no_dashboard(refused, address):
    assert refused("jobs", "--address", address).startswith(f"the address is {address!r}; wanted the dashboard's")


@pytest.mark.parametrize("words", [["jobs"], ["logs", "x"], ["stop", "x"], ["submit", "--", "encode", "/a", "/b"]])
@pytest.mark.parametrize("variable", ["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"])
def test_the_variable_that_names_a_cluster_that_is_gone_is_said(refused, monkeypatch, words, variable):
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert refused(*words).startswith(f"no Ray answers at http://127.0.0.1:9, which {variable} names (")


@pytest.mark.parametrize("address", ["http://", "http://[bad", "http://a..b:1", "http://127.0.0.1:port"])
def test_an_address_that_no_server_can_have(refused, address):
    assert refused("jobs", "--address", address).startswith(f"no Ray answers at {address.rstrip('/')} (")


def test_a_port_that_takes_connections_and_says_nothing_is_left_in_half_a_minute(refused, monkeypatch):
    monkeypatch.setattr(job_server, "ANSWER_SECONDS", (1, 1))
    assert sum(WAITED) <= 30
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = refused("jobs", "--address", f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert line.startswith("no Ray answers at") and "(ReadTimeout)" in line


def test_the_address_given_wins_over_the_variables_and_ours_over_rays(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:1[, ]"):
        JobServer(None)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:2")
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:2[, ]"):
        JobServer(None)
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:3[, ]"):
        JobServer("http://127.0.0.1:3/")


class Silent(http.server.BaseHTTPRequestHandler):
    """Knows no GET, and does not tell of it on stderr."""

    def log_message(self, *_):
        pass


def test_an_address_where_something_else_answers(refused):
    server = http.server.HTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.handle_request, daemon=True).start()
    line = refused("jobs", "--address", f"http://127.0.0.1:{server.server_port}")
    assert "is no Ray dashboard (HTTP 501): check --address" in line
    server.server_close()


def test_the_token_is_looked_for_where_ray_looks(monkeypatch, tmp_path):
    assert find_token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of-home\n")
    assert find_token().value == "of-home"
    (tmp_path / "named").write_text("of-file\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    assert find_token().value == "of-file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-variable")
    assert find_token().value == "of-variable" and "of-variable" not in repr(find_token())
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert find_token() is None


def test_a_token_file_that_is_not_there(refused, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    assert (
        refused("jobs")
        == "RAY_AUTH_TOKEN_PATH=/nowhere/token cannot be read (No such file or directory): name the file"
    )


def test_a_token_that_lies_at_home_is_not_sent_to_whatever_cluster_is_joined(monkeypatch, tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of-home\n")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert find_token() is not None
    join_with_token()
    assert "RAY_AUTH_MODE" not in os.environ


def test_ray_sends_the_token_to_a_cluster_that_is_joined_by_address(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t")
    join_with_token()
    assert "RAY_AUTH_MODE" not in os.environ
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    join_with_token()
    assert os.environ.pop("RAY_AUTH_MODE") == "token"  # monkeypatch would put it back, for every test that follows


def test_the_same_work_has_one_stem_and_other_work_another():
    first = command("encode", "s3://b/c", "s3://b/bank", "--actors", "2", "--pool", "encode")
    assert first.stem == command("encode", "--pool=encode", "--actors", "2", "s3://b/c", "s3://b/bank").stem
    assert first.stem != command("encode", "s3://b/c", "s3://b/bank", "--actors", "3", "--pool", "encode").stem
    assert first.stem.startswith("encode-") and command("train", "/nfs/run").stem.startswith("train-")


def test_a_submitted_command_adds_nothing_that_its_job_has_set(monkeypatch):
    ours = {"working_dir": "/staged", "env_vars": {"HF_HOME": "/hf", "AWS_REGION": "here"}}
    assert beside_the_job(ours) == ours
    monkeypatch.setenv(SUBMITTED, json.dumps({"runtime_env": {"env_vars": {"AWS_REGION": "there"}}, "metadata": {}}))
    assert beside_the_job(ours) == {"working_dir": "/staged", "env_vars": {"HF_HOME": "/hf"}}
    monkeypatch.setenv(SUBMITTED, json.dumps({"runtime_env": {"working_dir": "gcs://package.zip"}}))
    assert beside_the_job(ours) is None
