"""What an error becomes on stderr: a refusal as it stands, the machine's trouble plainly, a fault of ours as ours."""

from __future__ import annotations

import errno
import os
import pickle

import pytest

from model.refusal import Missing, Refusal, Taken, Unavailable, Unreachable
from nextmem.told import told
from pipeline.encode.encode import _cause

FAULT = "(this is a fault of nextmem, not yours; NEXTMEM_DEBUG=1 shows where it happened)"


@pytest.mark.parametrize(
    "error, known_as",
    [(Refusal, ValueError), (Missing, FileNotFoundError), (Taken, FileExistsError), (Unavailable, RuntimeError),
     (Unreachable, ConnectionError)],
)  # fmt: skip
def test_a_refusal_is_the_plain_error_of_its_kind_too_and_travels_between_processes(error, known_as):
    refusal = pickle.loads(pickle.dumps(error("no bank here:\n make one")))
    assert isinstance(refusal, known_as) and isinstance(refusal, Refusal)
    assert told(refusal) == "no bank here: make one"


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), IndexError("x"), RuntimeError("x"), AssertionError("x"), OSError("x")]
)
def test_whatever_is_no_refusal_is_called_a_fault_of_ours(error):
    assert told(error).startswith(type(error).__name__) and told(error).endswith(FAULT)


@pytest.mark.parametrize(
    "error, line",
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/bank/part"), "/bank/part: No space left on device"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "Permission denied"),
        (ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)), "Connection refused"),
        (Exception("Error writing /bank/x: No space left on device (os error 28)"),
         "Error writing /bank/x: No space left on device (os error 28)"),
        (ModuleNotFoundError("No module named 'gguf'", name="gguf"),
         "the package gguf is not installed: install it, or nextmem anew with all that it needs"),
    ],
)  # fmt: skip
def test_what_the_machine_lacks_stays_a_clear_line(error, line):
    assert told(error) == line


def test_encoders_that_ray_ended_for_memory_are_the_machine_s_trouble_in_one_line():
    said = (
        "a worker of this job failed: ray.exceptions.OutOfMemoryError: 5 worker(s) were killed due to the node running "
        "low on memory. Memory on the node (IP: 192.0.2.2) was 22.8GB / 23.5GB"
    )
    line = told(RuntimeError(said))
    assert line.startswith("a node's memory ran out, and Ray ended 5 workers on it: give fewer --actors")
    assert FAULT not in line and "192.0.2.2" not in line


def test_a_module_of_ours_that_is_missing_is_our_fault():
    assert told(ModuleNotFoundError("No module named 'jobs.nothing'", name="jobs.nothing")).endswith(FAULT)


@pytest.mark.parametrize("error", [ValueError, LookupError, RuntimeError])
def test_a_command_that_breaks_exits_1_and_says_whose_fault_it_is(nextmem, articles, monkeypatch, error):
    def broken(bank):
        raise error("index out of bounds")

    monkeypatch.setattr("nextmem.bank.info", broken)
    ran = nextmem("info", articles)
    assert (ran.code, ran.out, ran.err) == (1, "", f"nextmem: {error.__name__}: index out of bounds {FAULT}\n")


def test_a_refusal_on_a_worker_is_told_from_a_fault_there():
    assert _cause(Exception("Traceback\nmodel.refusal.Missing: no codec\n")).endswith("model.refusal.Missing: no codec")


NOT_UTF8 = "caf\udce9"


@pytest.mark.parametrize(
    "words",
    [["search", "bank", NOT_UTF8], ["recall", "bank", "--doc", NOT_UTF8], ["recall", "bank", "--id", NOT_UTF8],
     ["encode", NOT_UTF8, "bank"], ["encode", "x.jsonl", NOT_UTF8],
     ["encode", "x", "b", "--set", f"log_file={NOT_UTF8}"],
     ["encode", "x", "b", "--columns", NOT_UTF8], ["export", "bank", NOT_UTF8], ["info", NOT_UTF8],
     ["train", NOT_UTF8], ["train", "run", "--data", NOT_UTF8], ["evaluate", "--data", NOT_UTF8],
     ["submit", "--", "encode", "/x", f"/{NOT_UTF8}"], ["logs", NOT_UTF8], [NOT_UTF8]],
)  # fmt: skip
def test_an_argument_that_is_not_utf8_is_one_line_whatever_it_is(refused, words):
    assert "caf\\xe9' is not UTF-8: give it in UTF-8, or rename what it names" in refused(*words)


@pytest.mark.parametrize("query", ["-x is negative", "--what is it?", "-5"])
def test_a_query_that_begins_with_a_dash_gets_a_hint(nextmem, articles, query):
    ran = nextmem("search", articles, query)
    assert ran.code == 2 and 'QUERY that begins with "-" comes after --: ' in ran.err
    assert "[OPTIONS] -- BANK QUERY" in ran.err


def test_a_query_after_two_dashes_is_a_query(nextmem, articles):
    assert nextmem("search", articles, "-k", "1", "--", "-x is negative").code == 0


def test_a_missing_argument_without_any_dash_gets_no_hint(nextmem):
    assert "comes after --" not in nextmem("search", "bank").err
