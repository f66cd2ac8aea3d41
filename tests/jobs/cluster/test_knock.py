"""RAY_ADDRESS names a cluster that is gone, or something else: one line, and nothing is made."""

from __future__ import annotations

import http.server
import socket
import threading

import pytest
from clusters import RayCluster
from ports import free_ports
from works import jsonl

from jobs.cluster import knock
from jobs.cluster.knock import require_answer
from model.refusal import Refusal, Unavailable


@pytest.fixture
def silent():
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def web():
    """A port where a web server answers."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_gone_is_named(scheme):
    address = f"{scheme}127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(Unavailable, match=f"no Ray answers at {address}, which RAY_ADDRESS names: nothing answers"):
        require_answer(address, seconds=1)


def test_a_host_that_has_no_address_is_named():
    with pytest.raises(Unavailable, match=r"no Ray answers at nowhere\.invalid:6379, which RAY_ADDRESS names"):
        require_answer("nowhere.invalid:6379", seconds=1)


@pytest.mark.parametrize("who", ["silent", "web"])
def test_something_else_on_the_port_is_no_ray(request, who):
    with pytest.raises(Unavailable, match="which RAY_ADDRESS names: what answers there is no Ray"):
        require_answer(request.getfixturevalue(who), seconds=1)


@pytest.mark.parametrize("address", ["head", "10.0.0.1", "head:port", "head:0", "head:99999", "k8s://head:1", "a b:1"])
def test_what_is_no_address_is_refused_at_once(address):
    with pytest.raises(Refusal, match=r"RAY_ADDRESS is '.*': wanted HOST:PORT of the cluster's head"):
        require_answer(address)


def test_a_dashboard_is_for_submit():
    with pytest.raises(Refusal, match="a dashboard, which only `nextmem submit` goes to"):
        require_answer("http://127.0.0.1:8265")


def test_encode_is_refused_in_one_line_and_makes_no_bank(refused, tmp_path, monkeypatch, tiny_codec_folder):
    monkeypatch.setattr(knock, "ANSWER_SECONDS", 1)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_ports(1)[0]}")
    corpus = jsonl(tmp_path / "corpus.jsonl", {"a": "Some text."})
    line = refused("encode", corpus, tmp_path / "new" / "bank", "--codec", tiny_codec_folder)
    assert line.startswith("no Ray answers at 127.0.0.1:") and "which RAY_ADDRESS names" in line
    assert not (tmp_path / "new").exists()


def test_training_is_refused_in_one_line_and_makes_no_run(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(knock, "ANSWER_SECONDS", 1)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_ports(1)[0]}")
    corpus = jsonl(tmp_path / "corpus.jsonl", {"a": "Some text."})
    assert "no Ray answers at" in refused("train", tmp_path / "run", "--data", corpus, "--backbone", "tiny-llama")
    assert not (tmp_path / "run").exists()


@pytest.mark.ray
def test_a_head_and_its_client_server_answer_though_they_ask_for_a_token_and_its_dashboard_does_not():
    cluster = RayCluster()
    try:
        words = cluster.starts[0].arguments
        require_answer(cluster.address)
        require_answer(f"ray://127.0.0.1:{words[words.index('--ray-client-server-port') + 1]}")
        with pytest.raises(Unavailable, match="what answers there is no Ray"):
            require_answer(cluster.url.removeprefix("http://"), seconds=5)
    finally:
        cluster.close()
