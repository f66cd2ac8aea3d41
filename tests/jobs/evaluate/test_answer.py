"""Scores of short answers, counted by hand; and the judge, an HTTP server of the test's own."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import nextmem
from jobs.evaluate.judge import Judge
from jobs.evaluate.kept import Kept
from jobs.evaluate.tasks.answer import answer_f1, contains, exact_match
from model.refusal import Refusal, Unreachable


def test_case_marks_and_articles_do_not_count():
    assert exact_match("The Cow", "cow!") == 1 and exact_match("the Cow", "a bull") == 0


def test_f1_is_of_words_in_common():
    assert answer_f1("pier 3", "It is pier 3.") == pytest.approx(2 * 2 / (2 + 4))
    assert answer_f1("pier 3", "no idea") == 0


def test_a_reference_is_contained_as_whole_words():
    assert contains("pier 3", "from pier 3, I think") == 1
    assert contains("pier 3", "from pier 31") == 0 and contains("", "anything") == 0


class Endpoint:
    """Answers chat completions with what the test says, and keeps what it was asked."""

    def __init__(self):
        self.reply: object = {"right": True}
        self.status, self.asked = 200, []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.asked.append((self.path, json.loads(body), self.headers.get("Authorization")))
                self.send_response(endpoint.status)
                self.end_headers()
                self.wfile.write(endpoint.body())

            def log_message(self, *arguments):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def body(self) -> bytes:
        if isinstance(self.reply, str):
            return self.reply.encode()
        content = f"Sure: {json.dumps(self.reply)}"
        return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


@pytest.fixture
def endpoint():
    endpoint = Endpoint()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


def test_a_judge_is_asked_once_at_temperature_nought_and_blind(endpoint, monkeypatch):
    monkeypatch.setenv("NEXTMEM_JUDGE_KEY", "secret")
    judge = Judge(endpoint.url, "grader", Kept(None))
    assert (
        judge.right("From which pier?", ("pier 3",), "3") is judge.right("From which pier?", ("pier 3",), "3") is True
    )
    endpoint.reply = {"right": False}
    assert judge.right("From which pier?", ("pier 3",), "4") is False
    assert len(endpoint.asked) == 2
    path, body, key = endpoint.asked[0]
    assert path == "/v1/chat/completions" and body["temperature"] == 0 and body["model"] == "grader"
    assert key == "Bearer secret"
    assert "pier 3" in body["messages"][1]["content"] and "latents" not in json.dumps(body)


@pytest.mark.parametrize("reply", ["no JSON", '{"choices": []}', {"right": "perhaps"}, {"verdict": True}])
def test_an_endpoint_that_gives_no_verdict_is_refused_and_nothing_is_kept(endpoint, reply):
    endpoint.reply = reply
    judge = Judge(endpoint.url, "grader", Kept(None))
    with pytest.raises(Refusal, match="grader at http"):
        judge.right("Q?", ("A",), "B")
    endpoint.reply = {"right": True}
    assert judge.right("Q?", ("A",), "B")


def test_an_endpoint_that_fails_or_is_not_there_is_named(endpoint):
    endpoint.status = 500
    with pytest.raises(Unreachable, match="answers with status 500"):
        Judge(endpoint.url, "grader", Kept(None)).right("Q?", ("A",), "B")
    with pytest.raises(Unreachable, match="does not answer"):
        Judge("http://127.0.0.1:9/v1", "grader", Kept(None)).right("Q?", ("A",), "B")


def test_a_judge_stands_beside_the_other_figures_and_its_failure_takes_none_of_them(endpoint, harbour_folder):
    asked = {
        "data": harbour_folder,
        "backbone": "tiny-llama",
        "precision": "fp32",
        "limit": 2,
        "draws": 50,
        "tokens": 192,
    }
    found = nextmem.evaluate("text", tasks="answer", judge=(endpoint.url, "grader"), **asked)
    assert {f.value for f in found.figures if f.metric == "judge"} == {1.0} and found.made["judge"] == {
        "model": "grader"
    }
    endpoint.status = 500
    found = nextmem.evaluate("text", tasks=("answer", "reconstruct"), judge=(endpoint.url, "grader"), **asked)
    assert {fault["task"] for fault in found.faults} == {"answer"} and "status 500" in found.faults[0]["error"]
    assert {"nats", "gap", "exact", "whole"} <= {f.metric for f in found.figures}
    assert "judge" not in {f.metric for f in found.figures}
