"""What `nextmem encode` says at the end, to people and to programs."""

from __future__ import annotations

import json

from jobs.encode.encode import EncodeResult
from nextmem.commands.report import print_encoded
from pipeline.bank.commit import Receipt
from pipeline.bank.unit_file import WrittenFile
from pipeline.encode.outcome import Failure, Outcome
from pipeline.encode.summary import Tally, summarise

VERIFIED = {"verified": 4, "fidelity": 3.0, "whole": 1, "carried": 2.0, "patch_bytes": 40}
RECALLED = {"recalled": 16, "recalled_exactly": 16}


def result(numbers=VERIFIED, rejected=0, failure=None, passed_over=None):
    files = (WrittenFile("part-u.parquet", 4000, 4, "{}"),)
    tally = Tally()
    tally.add([Outcome(Receipt("u", files, documents=2, chunks=4, tokens=500, rejected=rejected), numbers=numbers)])
    tally.add([Outcome(failure=failure)] if failure else [])
    counts = {"held": 3, "duplicates": 0, "replaced": 1, "seconds": 10.0, "start_up_seconds": 5.0}
    return EncodeResult(summarise(tally, **counts), tuple(tally.failures), "/banks/b", "c0dec", passed_over or {})


def test_a_person_reads_what_was_done_and_what_the_latents_carry(capsys):
    print_encoded(result(VERIFIED | RECALLED), as_json=False)
    out, err = capsys.readouterr()
    assert "documents  2 encoded, 3 held already, 1 replaced\n" in out
    assert "latents    75.0 % of positions right, 25.0 % of chunks at every position\n" in out
    assert "recall     exact in 16 of 16 rows that were recalled to see\n" in out
    assert "carried    50.0 % by latents, the rest by patches and raw ids (10 bytes a chunk)\n" in out
    assert err == ""


def test_what_nobody_recalled_is_not_called_exact(capsys):
    print_encoded(result(), as_json=False)
    out = capsys.readouterr().out
    assert "recall     every chunk has its patch; none was recalled to see" in out and "exact" not in out


def test_a_row_that_did_not_recall_is_said_and_makes_the_job_incomplete(capsys):
    made = result(VERIFIED | RECALLED | {"recalled_exactly": 15})
    print_encoded(made, as_json=False)
    out, err = capsys.readouterr()
    assert "exact in 15 of 16 rows" in out and not made.complete
    assert err == "1 rows do not recall exactly: `nextmem verify /banks/b` names all such\n"


REFINED = {
    "refined": 4,
    "refine_steps": 40,
    "refine_seconds": 50.0,
    "refined_encode_seconds": 2.0,
    "fidelity_before": 2.0,
    "patch_bytes_before": 400,
}


def test_a_person_reads_what_refining_did_and_what_it_took(capsys):
    print_encoded(result(numbers=VERIFIED | REFINED), as_json=False)
    did = "4 chunks in 10.0 steps each, 25 times what encoding them took; before: 50.0 % of positions right, 100 bytes"
    assert f"refined    {did} of patch\n" in capsys.readouterr().out


def test_a_person_reads_how_many_chunks_could_not_be_refined(capsys):
    print_encoded(result(numbers=VERIFIED | REFINED | {"not_refined": 1}), as_json=False)
    assert "1 chunks: refining met numbers that are not finite" in capsys.readouterr().out


def test_a_job_that_refined_nothing_does_not_speak_of_it(capsys):
    print_encoded(result(), as_json=False)
    assert "refin" not in capsys.readouterr().out


def test_without_verifying_recall_is_not_called_exact(capsys):
    print_encoded(result(numbers={}), as_json=False)
    assert "recall     not verified" in capsys.readouterr().out


def test_what_was_left_out_is_said_on_stderr(capsys):
    print_encoded(result(rejected=2, failure=Failure("x", "I/O error")), as_json=False)
    assert capsys.readouterr().err == (
        "2 rejected: see /banks/b/_rejected/\nunit x was not done: I/O error\n"
        "nothing of such units is lost: the same command tries them again\n"
    )


def test_a_job_that_left_something_out_is_not_complete():
    assert result().complete
    assert not result(rejected=1).complete and not result(failure=Failure("x", "I/O error")).complete


def test_json_is_one_line_with_the_failures(capsys):
    print_encoded(result(failure=Failure("x", "I/O error")), as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    assert (record["event"], record["chunks"], record["bank"]) == ("summary", 4, "/banks/b")
    assert record["failures"] == [{"unit": "x", "reason": "I/O error"}]


def test_files_of_other_formats_are_counted_by_ending(capsys):
    print_encoded(result(passed_over={".csv": 1000, "folder": 2, "hidden": 1}), as_json=False)
    said = "1,001 files of other formats passed over: .csv 1,000, hidden 1; "
    said += "2 folders passed over (hidden, _*, or memory banks)"
    assert f"other files  {said}\n" in capsys.readouterr().out
    print_encoded(result(passed_over={".csv": 1}), as_json=True)
    assert json.loads(capsys.readouterr().out)["passed_over"] == {".csv": 1}
