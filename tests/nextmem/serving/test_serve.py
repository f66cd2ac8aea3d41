"""Banks over HTTP: each verb that reads, and what is said to whoever asks for what there is not."""

from __future__ import annotations

import json
import shutil
import socket

import pytest
import requests
import torch
from safetensors.torch import load
from serving import serving
from works import ARTICLES

from nextmem.serving.app import Limits


def test_a_search_gives_hits_with_their_exact_texts(client):
    hits = client.post("search", query=ARTICLES["fox"][:32], k=3).json()["hits"]
    assert (hits[0]["doc_id"], hits[0]["text"]) == ("fox", ARTICLES["fox"][:32]) and len(hits) == 3
    for hit in hits:
        assert hit["text"] == ARTICLES[hit["doc_id"]][hit["char_start"] : hit["char_end"]]
    bare = client.post("search", query=ARTICLES["fox"][:32], k=1, text=False).json()["hits"]
    assert bare[0]["chunk_id"] == hits[0]["chunk_id"] and "text" not in bare[0]


def test_a_filter_keeps_a_search_to_its_rows(client):
    hits = client.post("search", query="fox", k=50, filter={"doc_id": "tokyo"}, text=False).json()["hits"]
    assert {hit["doc_id"] for hit in hits} == {"tokyo"}


def test_documents_and_chunks_are_recalled_exactly(client):
    for doc_id, text in ARTICLES.items():
        answer = client.post("recall", doc_id=doc_id).json()
        assert answer["text"] == text
        chunks = [client.post("recall", chunk_id=each).json()["text"] for each in answer["chunk_ids"]]
        assert "".join(chunks) == text


def test_latents_come_as_safetensors_in_the_order_asked_for(client):
    ids = client.post("recall", doc_id="tokyo").json()["chunk_ids"][::-1]
    stored = client.memory.bank.latents(ids)
    values = load(client.post("latents", chunk_ids=ids, **{"as": "values"}).content)["latents"]
    assert torch.equal(values, stored.values.cpu())
    assert torch.equal(load(client.post("latents", chunk_ids=ids).content)["latents"], stored.as_embeds().cpu())


def test_a_context_keeps_to_its_budget_and_says_its_cost(client):
    answer = client.post("context", query="the quick fox", tokens=70).json()
    assert answer["tokens"] == len(answer["text"].encode()) <= 70
    assert answer["history_tokens"] == sum(len(text.encode()) for text in ARTICLES.values())


def test_banks_health_and_metrics_say_what_is_there(client):
    assert client.get("/health").json() == {"status": "ok", "waiting": 0}
    (row,) = client.get("/banks").json()["banks"]
    assert (row["name"], row["chunks"], row["read_only"]) == ("bank", len(client.memory), False)
    client.post("recall", doc_id="nobody")
    text = client.get("/metrics").text
    assert 'nextmem_serve_requests_total{bank="bank",status="404",verb="recall"}' in text
    assert 'nextmem_serve_waiting{bank="bank"} 0.0' in text and "nextmem_serve_batch_size_bucket" in text


def test_openapi_describes_every_verb_with_its_fields(client):
    described = client.get("/openapi.json").json()
    verbs = {path.rsplit("/", 1)[-1] for path, how in described["paths"].items() if "post" in how}
    assert verbs == {"search", "context", "recall", "latents", "remember", "forget", "edit"}
    fields = described["components"]["schemas"]["Search"]["properties"]
    assert fields["k"]["maximum"] == 100 and set(fields) == {"query", "k", "filter", "text"}
    for how in described["paths"].values():
        for body in (method["requestBody"] for method in how.values() if "requestBody" in method):
            name = body["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1]
            assert name in described["components"]["schemas"]


@pytest.mark.parametrize(
    ("verb", "body", "status", "said"),
    [
        ("search", {"query": ""}, 400, "query: String should have at least 1 character"),
        ("search", {"query": "x", "k": 101}, 400, "k: Input should be less than or equal to 100"),
        ("search", {"query": "x", "kk": 1}, 400, "kk: Extra inputs are not permitted"),
        ("search", {"query": "x", "filter": {"topik": "a"}}, 400, "no column 'topik' to filter by"),
        ("search", {"query": "   "}, 400, "the query is empty"),
        ("recall", {}, 400, "give one of chunk_id and doc_id"),
        ("recall", {"doc_id": "nobody"}, 404, "holds no doc_id 'nobody'"),
        ("latents", {"chunk_ids": ["0" * 32]}, 404, "0" * 32),
        ("latents", {"chunk_ids": []}, 400, "chunk_ids: List should have at least 1 item"),
        ("context", {"query": "x", "tokens": 0}, 400, "tokens: Input should be greater than or equal to 1"),
        ("remember", {"text": "x", "update": True}, 400, "an update needs the doc_id"),
    ],
)
def test_what_can_not_be_answered_is_refused_in_one_line(client, verb, body, status, said):
    answer = client.post(verb, **body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert said in answer.json()["error"] and "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"query": "caf\xe9"}', "not UTF-8: byte 14 is 0xe9"),
        (b"query=fox", "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b"[1, 2]", "object"),
        (b'{"query": "\\ud800"}', "hex escape"),
    ],
)
def test_a_body_that_is_no_json_is_refused(client, body, said):
    answer = client.send("search", data=body)
    assert answer.status_code == 400 and said in answer.json()["error"]


def test_a_bank_verb_or_path_that_is_not_there_is_named(client):
    assert "no bank 'other' here; there is bank" in client.post("search", "other", query="x").json()["error"]
    unknown = client.post("serach", query="x")
    assert unknown.status_code == 404 and "/openapi.json lists what there is" in unknown.json()["error"]
    assert client.get("/banks/bank/search").status_code == 405


def test_a_body_past_the_limit_is_refused_however_it_is_sent(articles):
    with serving(articles, limits=Limits(body=1000), read_only=True) as client:
        bank = client.memory.bank.path.rsplit("/", 1)[-1]
        whole = json.dumps({"query": "x" * 2000}).encode()
        for data in (whole, iter([whole[:900], whole[900:]])):  # an iterator is sent in pieces, without a length
            answer = client.send("search", bank, data=data)
            assert answer.status_code == 413 and "larger than 1,000 bytes" in answer.json()["error"]
        assert client.post("search", bank, query="fox", k=1).status_code == 200


def test_without_the_token_nothing_is_told(articles):
    with serving(articles, token="s3cret-é", read_only=True) as client:
        bank = client.memory.bank.path.rsplit("/", 1)[-1]
        headers = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": b"Basic s3cret-\xc3\xa9"},
                   {"Authorization": "Bearer "}, {"Authorization": "Bearer s3cret"}]  # fmt: skip
        for path in ("/banks", "/metrics", "/openapi.json", "/nowhere", f"/banks/{bank}/search"):
            for header in headers:
                answer = requests.get(client.url + path, headers=header, timeout=60)
                assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
                assert bank not in answer.text
        right = {"Authorization": "Bearer s3cret-é".encode()}
        assert requests.get(client.url + "/banks", headers=right, timeout=60).status_code == 200
        assert requests.get(client.url + "/health", timeout=60).status_code == 200


def test_a_read_only_server_has_no_verbs_that_change(articles):
    with serving(articles, read_only=True) as client:
        bank = client.memory.bank.path.rsplit("/", 1)[-1]
        assert client.post("remember", bank, text="x").status_code == 404
        assert "remember" not in client.get("/openapi.json").text


def test_a_client_that_hangs_up_leaves_the_server_at_work(client):
    host, port = client.url.removeprefix("http://").split(":")
    body = json.dumps({"query": "the fox", "k": 5}).encode()
    head = b"POST /banks/bank/search HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    for sent in (head % len(body) + body, head % 5000 + body):  # after its request; in the midst of it
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
    assert client.post("recall", doc_id="fox").json()["text"] == ARTICLES["fox"]


def test_a_bank_that_is_removed_is_said_to_be_gone(articles, tmp_path):
    shutil.copytree(articles, tmp_path / "bank")
    with serving(tmp_path / "bank", read_only=True) as client:
        assert client.post("search", query="fox").status_code == 200
        shutil.rmtree(tmp_path / "bank")
        for verb, body in (("search", {"query": "fox"}), ("recall", {"doc_id": "fox"})):
            answer = client.post(verb, **body)
            assert answer.status_code == 410 and "has been removed" in answer.json()["error"]
        assert client.get("/health").status_code == 200
