"""The examples of an agent's memory, run as they stand, with the tiny codec and without Ray."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import nextmem
from benchmarks import agent_loop
from examples import agent, prompt_embeds
from examples.agent import FULL, RECALLED, TEXT
from examples.agent import LATENTS as BY_LATENTS
from examples.conversations import conversations_of
from model.backbone import load_backbone

LATENTS, WIDTH = 3, 64  # of the tiny codec


@pytest.fixture(scope="module")
def played(tiny_codec_folder):
    """The conversation that lies beside the example: each way's figures."""
    return agent.main(codec=str(tiny_codec_folder), budget=200, window=300)


def test_recalled_text_gives_the_answers_of_a_text_memory_letter_for_letter(played):
    assert played[RECALLED].said == played[TEXT].said and played[RECALLED].nats == played[TEXT].nats
    assert len(played[TEXT].said) == 8


def test_no_context_takes_more_than_a_quarter_of_the_history(played):
    for way in (TEXT, RECALLED, BY_LATENTS):
        assert all(0 < 4 * few <= every for few, every in zip(played[way].tokens, played[FULL].tokens, strict=True))
    chunks = [tokens / LATENTS for tokens in played[BY_LATENTS].tokens]
    assert all(count == int(count) for count in chunks)  # so many latents each, and nothing else


def test_a_second_search_knows_what_the_first_has_read(tiny_codec_folder, tmp_path):
    asked = []
    with nextmem.Memory(nextmem.create(tmp_path / "bank", codec=tiny_codec_folder)) as memory:
        reader = agent.Reader(load_backbone(memory.bank.identity.backbone), 100)
        one = agent.Agent(memory, reader, budget=64, steps=2)
        for place in range(12):
            one.hear(agent.Turn(f"turn-{place}", f"The {place}th day was a long one, they said."))
        memory.context = lambda query, **how: asked.append(query) or nextmem.Memory.context(memory, query, **how)
        one.asked(agent.Question("How was the 3rd day?", "long"))
    first, second = asked[:2]
    assert first == "How was the 3rd day?" and second.startswith(first) and "day was a long one" in second


def folder_of(path, groups, answering):
    """Eight passages and a question a group, as LoCoMo, LongMemEval and HotpotQA have them."""
    path.mkdir(exist_ok=True)
    passages = [
        {"id": f"{name}-{day}", "text": f"On day {day} {name} saw {day} herons by the old mill.", "group": group}
        for name, group in groups.items()
        for day in range(8)
    ]
    queries = [{"id": f"q-{name}", "question": f"What did {name} see?", "answers": ["herons"], "group": group}
               for name, group in groups.items()]  # fmt: skip
    qrels = [{"query_id": f"q-{name}", "passage_id": passage, "score": 1}
             for name in groups for passage in answering(name)]  # fmt: skip
    for name, rows in (("corpus", passages), ("queries", queries), ("qrels", qrels)):
        pq.write_table(pa.Table.from_pylist(rows), path / f"{name}.parquet")
    return str(path)


def test_conversations_of_a_folder_are_played_one_by_one(tmp_path, tiny_codec_folder):
    data = folder_of(tmp_path, {"ada": "conv-4", "ben": "conv-43"}, lambda name: [f"{name}-0"])
    found = agent.main(data, conversations=2, codec=str(tiny_codec_folder), budget=64)
    assert len(found[TEXT].said) == 2
    for played in conversations_of(data, 2, 5):
        (question,) = [event for event in played if isinstance(event, agent.Question)]
        turns = [event for event in played if isinstance(event, agent.Turn)]
        assert len(turns) == 8 and all(turn.id.partition("-")[0] in question.text for turn in turns)


def test_of_passages_that_are_no_conversations_those_that_answer_are_heard_and_some_others(tmp_path):
    data = folder_of(tmp_path, {"ada": "", "ben": "", "cleo": ""}, lambda name: [f"{name}-2", f"{name}-5"])
    (first, second) = conversations_of(data, 9, 2, turns=6)
    for played, questions in ((first, 2), (second, 1)):
        asked = [event.text.split()[2] for event in played if isinstance(event, agent.Question)]
        heard = [event.id for event in played if isinstance(event, agent.Turn)]
        assert len(asked) == questions and len(heard) == 6 == len(set(heard))
        assert {f"{name}-{day}" for name in asked for day in (2, 5)} <= set(heard)


def test_the_benchmark_over_the_loop_goes_on_where_it_was(tmp_path, tiny_codec_folder, monkeypatch, capsys):
    data = folder_of(tmp_path / "birds", {"ada": "a", "ben": "b"}, lambda name: [f"{name}-0"])
    out = tmp_path / "loop.jsonl"
    words = ["agent_loop", data, "--out", str(out), "--codec", str(tiny_codec_folder), "--budget", "64"]
    monkeypatch.setattr("sys.argv", words)
    agent_loop.main()
    first, lines = capsys.readouterr().out, out.read_text().splitlines(keepends=True)
    out.write_text(lines[0] + lines[1][:40])  # killed while it wrote
    agent_loop.main()
    again = capsys.readouterr().out
    assert "birds, recalled text: nats a token" in first
    held = [line for line in first.splitlines() if "ms" not in line and "load" not in line]
    assert held == [line for line in again.splitlines() if "ms" not in line and "load" not in line]
    assert out.read_text().startswith(lines[0]) and len(agent_loop.played(out)) == 2


class Completions(BaseHTTPRequestHandler):
    """An endpoint that answers with what it was asked about, or as its path says."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = body["messages"][0]["content"]
        ok = {"choices": [{"message": {"content": " oak " if "keel" in said else f"{len(said)}"}}]}
        replies = {"/bad": (200, b"<html>"), "/odd": (200, b'{"choices": []}'), "/down": (500, b"{}")}
        status, reply = replies.get(self.path.removesuffix("/chat/completions"), (200, json.dumps(ok).encode()))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    server = HTTPServer(("127.0.0.1", 0), Completions)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_an_endpoint_answers_from_texts_alone(endpoint, tiny_codec_folder):
    found = agent.main(codec=str(tiny_codec_folder), endpoint=f"{endpoint}/v1", model="any", budget=200)
    assert set(found) == {FULL, TEXT, RECALLED} and found[TEXT].nats == []
    assert found[RECALLED].said[0] == "oak" and found[RECALLED].right[0]


@pytest.mark.parametrize(
    ("path", "why"), [("bad", "answers no chat completion"), ("odd", "no chat completion"), ("down", "fails: 500")]
)
def test_an_endpoint_that_fails_is_named(endpoint, path, why):
    with pytest.raises(nextmem.Refusal, match=why):
        agent.Endpoint(f"{endpoint}/{path}", "any").answer("", agent.Question("Who?", "me"))


def test_a_prompt_of_embeddings_holds_the_latents_as_the_backbone_reads_them(articles, tmp_path):
    prompt = prompt_embeds.main(articles, "the fox", str(tmp_path / "prompt.pt"), tokens=2 * LATENTS)
    backbone = load_backbone("tiny-llama")
    after = backbone.tokenizer.encode(prompt_embeds.AFTER.format(question="the fox"))
    assert prompt.shape == (1 + 2 * LATENTS + len(after), WIDTH)
    assert torch.equal(torch.load(tmp_path / "prompt.pt"), prompt) and prompt.isfinite().all()
    with nextmem.Memory(articles) as memory:
        context = memory.context("the fox", tokens=2 * LATENTS, as_="latents")
    assert prompt.dtype == backbone.dtype
    assert torch.equal(prompt[1 : 1 + 2 * LATENTS], context.embeds.to(prompt))
    texts = prompt[1 + 2 * LATENTS :].norm(dim=-1).mean()
    assert 0.2 < context.embeds.norm(dim=-1).mean() / texts < 5  # as long as the embeddings that they stand among
