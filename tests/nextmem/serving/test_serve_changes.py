"""What is changed over HTTP: found at once, by many clients at a time, and nothing of it lost."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import serving
from works import ARTICLES

import nextmem
from nextmem.serving.app import Limits


@pytest.fixture
def served(articles, tmp_path):
    """A server of a copy that a test may change."""
    with serving(shutil.copytree(articles, tmp_path / "bank")) as client:
        yield client


def test_a_text_is_remembered_found_edited_and_forgotten(served):
    kept = served.post("remember", text="The ferry leaves pier 3.", doc_id="ferry").json()
    assert (kept["new"], kept["doc_ids"]) == (1, ["ferry"])
    (hit,) = served.post("search", query="The ferry leaves pier 3.", k=1).json()["hits"]
    assert (hit["doc_id"], hit["text"]) == ("ferry", "The ferry leaves pier 3.")
    edited = served.post("edit", chunk_id=hit["chunk_id"], old="pier 3", new="pier 9").json()
    assert served.post("recall", chunk_id=edited["chunk_ids"][0]).json()["text"] == "The ferry leaves pier 9."
    assert served.post("forget", doc_ids=["ferry"]).json()["documents"] == 1
    assert served.post("recall", doc_id="ferry").status_code == 404
    assert served.post("forget", doc_ids=["nobody"]).status_code == 404


def test_another_text_under_an_id_is_refused_unless_it_is_an_update(served):
    refused = served.post("remember", text="Another fox.", doc_id="fox")
    assert refused.status_code == 400 and "another text" in refused.json()["error"]
    assert served.post("recall", doc_id="fox").json()["text"] == ARTICLES["fox"]
    assert served.post("remember", text="Another fox.", doc_id="fox", update=True).json()["replaced"] == 1
    assert served.post("recall", doc_id="fox").json()["text"] == "Another fox."


def test_what_another_process_commits_is_seen(served):
    with nextmem.Memory(served.memory.bank.path) as other:
        other.remember("Herons stand on one leg.", doc_id="heron")
    assert served.post("recall", doc_id="heron").json()["text"] == "Herons stand on one leg."


def test_many_clients_at_once_get_their_own_texts_and_all_is_kept(served):
    def ask(number):
        if number % 4 == 0:
            return served.post("remember", text=f"Note {number}.", doc_id=f"note-{number}").json()["new"]
        doc_id = list(ARTICLES)[number % 3]
        if number % 4 == 1:
            return served.post("recall", doc_id=doc_id).json()["text"] == ARTICLES[doc_id]
        if number % 4 == 2:
            return served.post("recall", doc_id="nobody").status_code == 404
        hits = served.post("search", query=ARTICLES[doc_id][:20], k=3, filter={"doc_id": doc_id}).json()["hits"]
        return all(hit["text"] == ARTICLES[doc_id][hit["char_start"] : hit["char_end"]] for hit in hits) and bool(hits)

    with ThreadPoolExecutor(8) as clients:
        assert all(clients.map(ask, range(48)))
    for number in range(0, 48, 4):
        assert served.post("recall", doc_id=f"note-{number}").json()["text"] == f"Note {number}."
    sizes = [
        line for line in served.get("/metrics").text.splitlines() if 'batch_size_bucket{bank="bank",le="1.0"}' in line
    ]
    batches = [line for line in served.get("/metrics").text.splitlines() if "batch_size_count" in line]
    assert float(sizes[0].split()[-1]) < float(batches[0].split()[-1])  # some went together


def test_when_too_many_wait_the_rest_are_told_to_come_again(articles, tmp_path):
    shutil.copytree(articles, tmp_path / "bank")
    with serving(tmp_path / "bank", limits=Limits(waiting=1, batch=1)) as client, ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda _: client.post("search", query="the fox", k=3), range(24)))
    assert {answer.status_code for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert "try again in a second" in answer.json()["error"] and answer.headers["Retry-After"] == "1"
        else:
            assert answer.json()["hits"][0]["text"]
