"""What is forgotten leaves in one commit and stays gone, until it is remembered or brought back as it was."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pytest
from banks import IDENTITY, held, hex32, receipt, vacuum

from pipeline.bank import commit as commit_module
from pipeline.bank import forget as forget_module
from pipeline.bank import forgotten as forgotten_module
from pipeline.bank.bank import Bank
from pipeline.bank.bring_back import bring_back
from pipeline.bank.commit import Receipt, add_actions, commit, remove_actions, swap
from pipeline.bank.forget import forget
from pipeline.bank.forgotten import carrying, files_but_the_newest, folding, forgetting
from pipeline.bank.info import info
from pipeline.bank.lookup import NotInBank
from pipeline.bank.presence import BusyError, Presence, job_records
from pipeline.bank.problems import first_problems
from pipeline.bank.rejected import write_rejected
from pipeline.bank.tend import tend
from pipeline.bank.upkeep import compact
from pipeline.corpus.documents import ENCODER, Rejected


@pytest.fixture
def bank(tmp_path):
    """Two units: a, b in the one and c, d in the other."""
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    commit(bank, [receipt(bank, "u1", {"a": 2, "b": 3})])
    commit(bank, [receipt(bank, "u2", {"c": 1, "d": 1})])
    return bank


def reopened(bank):
    return Bank.open(bank.folder.uri)


def rows(bank):
    return sorted(
        (row for batch in reopened(bank).rows() for row in batch.to_pylist()), key=lambda row: row["chunk_id"]
    )


def test_documents_of_several_files_are_gone_in_one_commit(bank):
    others = [row for row in rows(bank) if row["doc_id"] in ("b", "d")]
    done = forget(bank, ["a", "c"])
    assert (done.documents, done.chunks, done.ids, done.already, done.version) == (2, 3, ("a", "c"), 0, 3)
    assert rows(bank) == others and first_problems(reopened(bank)) == []
    assert held(bank) == {"b": 3, "d": 1} and Bank.open(bank.folder.uri, version=2).count() == 7
    assert bank.table.history(1)[0]["nextmem"] == {"forgotten_documents": 2}


def test_a_dry_run_says_what_would_go_and_writes_nothing(bank):
    there = sorted(Path(bank.folder.uri).rglob("*"))
    done = forget(bank, ["a", "c"], dry_run=True)
    assert (done.documents, done.chunks, done.ids, done.version, done.dry_run) == (2, 3, ("a", "c"), 2, True)
    assert sorted(Path(bank.folder.uri).rglob("*")) == there


def test_a_filter_forgets_whole_documents_and_none_where_it_is_true_of_none(bank):
    assert forget(bank, where=pc.field("position") == 2).ids == ("b",)
    assert held(bank) == {"a": 2, "c": 1, "d": 1}
    nothing = forget(bank, where=pc.field("position") == 2)
    assert (nothing.documents, nothing.version) == (0, 3) == (0, reopened(bank).version)


def test_an_id_that_is_not_there_is_named_and_nothing_is_forgotten(bank):
    with pytest.raises(NotInBank, match=r"has no doc_id 'bb' at version 2. Did you mean 'b'\?"):
        forget(bank, ["a", "bb"])
    assert reopened(bank).version == 2 and not bank.folder.names("_forgotten") and not bank.folder.names("_jobs")


def test_what_is_forgotten_already_is_counted_so_the_same_call_may_come_again(bank):
    forget(bank, ["a"])
    again = forget(bank, ["a", "b"])
    assert (again.documents, again.ids, again.already) == (1, ("b",), 1)
    assert (forget(bank, ["a", "b"]).already, reopened(bank).version) == (2, 4)


def test_a_document_that_was_only_rejected_can_be_forgotten(bank):
    name = write_rejected(bank.folder, "u3", [Rejected("x.jsonl:1", "e", "no text", "", ENCODER)])
    commit(bank, [Receipt("u3", rejected=1, rejections=name)])
    assert (forget(bank, ["e"]).documents, list(bank.forgotten().among("abcde"))) == (1, ["e"])


def test_a_list_of_tombstones_holds_no_id_and_no_plain_hash_of_one(bank):
    forget(bank, ["a"])
    (name,) = bank.folder.names("_forgotten")
    said = hashes_in(bank, name)
    assert len(said) == 1 and len(said[0]) == 32 and said[0] != hex32("a")
    other = Bank.create(bank.folder.uri + "-2", IDENTITY)
    commit(other, [receipt(other, "u1", {"a": 1})])
    forget(other, ["a"])
    (name,) = other.folder.names("_forgotten")
    assert said != hashes_in(other, name)


def hashes_in(bank, name):
    return [each for group in json.loads(bank.folder.read(name))["tombstones"] for each in group["hashes"]]


def test_a_list_that_no_commit_names_says_nothing(bank):
    forgetting(bank, ["a"])  # and its writer dies
    assert bank.folder.names("_forgotten") and len(reopened(bank).forgotten()) == 0


def test_a_list_that_is_lost_is_noticed(bank):
    forget(bank, ["a"])
    forget(bank, ["b"])
    for name in bank.folder.names("_forgotten"):
        kept = bank.folder.read(name)
        bank.folder.remove(name)
        with pytest.raises(ValueError, match="_forgotten lacks a list that the bank's log names"):
            reopened(bank).forgotten()
        bank.folder.put(name, kept)
    assert sorted(reopened(bank).forgotten().among("abcd")) == ["a", "b"]


def test_an_older_version_has_forgotten_only_what_it_had_by_then(bank):
    forget(bank, ["a"])
    forget(bank, ["c"])
    then = [sorted(Bank.open(bank.folder.uri, version=version).forgotten().among("abcd")) for version in (2, 3, 4)]
    assert then == [[], ["a"], ["a", "c"]]


def test_however_often_something_was_forgotten_a_few_lists_are_read(bank, monkeypatch):
    monkeypatch.setattr(forgotten_module, "FOLD", 3)
    every = [f"e{number}" for number in range(20)]
    for doc_id in every:
        commit(bank, [receipt(bank, f"unit-{doc_id}", {doc_id: 1})])
        forget(bank, [doc_id])
    bring_back(bank, ["e0"])  # of a list that nobody reads any more, in the commit of one that stands for all
    assert list(reopened(bank).forgotten().among(["a", *every])) == every[1:]
    assert reopened(bank).forgotten().lists <= 3 < len(bank.folder.names("_forgotten"))
    then = Bank.open(bank.folder.uri, version=12)
    assert list(then.forgotten().among(every)) == every[:5] and held(bank)["e0"] == 1


def test_folded_into_one_list_they_stand_and_the_others_may_go(bank):
    for doc_id in "abc":
        forget(bank, [doc_id])
    bring_back(bank, ["b"])
    assert swap(bank, [], {}, folding(bank))
    for name in files_but_the_newest(bank):
        bank.folder.remove(name)
    assert reopened(bank).forgotten().among("abcd") == {"a": 3, "c": 5} and reopened(bank).forgotten().lists == 1


def test_a_job_that_was_planned_before_a_forget_does_not_bring_the_document_back(bank):
    """The job's units are encoded; then the documents go; then the job commits."""
    job, files = reopened(bank), receipt(bank, "u3", {"a": 2, "e": 2, "b": 1}, text="v2")
    alone = receipt(bank, "u4", {"c": 2}, text="v2")
    forget(bank, ["a", "b", "c"])
    done = commit(job, [files, alone])
    assert held(bank) == {"d": 1, "e": 2} and first_problems(reopened(bank)) == []
    made = {each.unit_id: (each.documents, each.chunks, each.tokens, each.forgotten) for each in done.receipts}
    assert made == {"u3": (1, 2, 14, 2), "u4": (0, 0, 0, 1)}
    assert reopened(bank).finished_units() == {"u1", "u2", "u3", "u4"}
    assert reopened(bank).finished_documents(["u3", "u4"]) == {"u3": 1, "u4": 0}


def test_a_forget_that_comes_between_a_commit_s_decision_and_its_log_entry_is_seen(bank, monkeypatch):
    job, theirs, real = reopened(bank), receipt(bank, "u3", {"a": 2, "e": 1}, text="v2"), commit_module.swap

    def late(*arguments):
        if reopened(bank).version == 2:
            forget(bank, ["a"])
        return real(*arguments)

    monkeypatch.setattr(commit_module, "swap", late)
    commit(job, [theirs])
    assert held(bank) == {"b": 3, "c": 1, "d": 1, "e": 1}


def test_a_forget_that_another_writer_overtakes_is_decided_anew(bank, monkeypatch):
    real = forget_module.swap

    def overtaken(*arguments):
        if reopened(bank).version == 2:
            other = reopened(bank)
            commit(other, [receipt(other, "u3", {"a": 1}, text="v2", replaces=("a",))])
        return real(*arguments)

    monkeypatch.setattr(forget_module, "swap", overtaken)
    assert forget(bank, ["a"]).chunks == 1
    assert held(bank) == {"b": 3, "c": 1, "d": 1}


def test_a_document_that_is_remembered_later_lifts_its_tombstone(bank):
    forget(bank, ["a", "b"])
    again = receipt(bank, "u3", {"a": 2}, text="v2")
    commit(bank, [replace(again, lifts=("a",))])
    assert held(bank) == {"a": 2, "c": 1, "d": 1} and list(reopened(bank).forgotten().among("ab")) == ["b"]
    assert Receipt.from_json(Receipt("u9", lifts=("a",)).to_json()).lifts == ("a",)
    forget(bank, ["a"])
    assert sorted(reopened(bank).forgotten().among("ab")) == ["a", "b"]


def test_another_bank_takes_tombstones_over(bank, tmp_path):
    forget(bank, ["a"])
    other = Bank.create(tmp_path / "other", IDENTITY)
    assert swap(other, [], {}, carrying(other, bank))
    commit(other, [receipt(other, "u1", {"a": 2, "b": 1})])
    assert held(other) == {"b": 1}
    forget(other, ["b"])
    assert sorted(reopened(other).forgotten().among("ab")) == ["a", "b"]


def test_undo_brings_back_the_rows_of_the_last_forget_as_they_were(bank):
    before = rows(bank)
    forget(bank, ["c"])
    forget(bank, ["a", "d"])
    compact(bank)
    tried = bring_back(bank, dry_run=True)
    assert (tried.documents, tried.chunks, tried.ids, held(bank)) == (2, 3, ("a", "d"), {"b": 3})
    done = bring_back(bank)
    assert (done.documents, done.chunks, done.ids) == (2, 3, ("a", "d"))
    assert rows(bank) == [row for row in before if row["doc_id"] != "c"]
    assert list(reopened(bank).forgotten().among("abcd")) == ["c"]
    bring_back(bank)
    assert rows(bank) == before and len(reopened(bank).forgotten()) == 0 and first_problems(reopened(bank)) == []
    with pytest.raises(ValueError, match="has nothing forgotten at version"):
        bring_back(bank)


def test_undo_of_some_documents_wherever_they_were_forgotten(bank):
    before = rows(bank)
    forget(bank, ["a", "b"])
    forget(bank, ["c", "d"])
    assert bring_back(bank, ["a", "d"]).chunks == 3
    assert rows(bank) == [row for row in before if row["doc_id"] in ("a", "d")]
    assert sorted(reopened(bank).forgotten().among("abcd")) == ["b", "c"]
    with pytest.raises(ValueError, match="has not forgotten 'a' at version 5: nothing is changed"):
        bring_back(bank, ["a", "b"])


@pytest.mark.parametrize("ids", [None, ["a"]])
def test_undo_from_a_version_that_is_cleaned_is_refused_and_changes_nothing(bank, ids):
    forget(bank, ["a"])
    vacuum(bank)
    for dry_run in (True, False):
        with pytest.raises(FileNotFoundError, match=r"version 2 of .* is cleaned: it cannot be brought back"):
            bring_back(bank, ids, dry_run=dry_run)
    assert held(bank) == {"b": 3, "c": 1, "d": 1} and reopened(bank).version == 3


def test_forgetting_and_tending_refuse_beside_each_other(bank):
    with Presence(bank.folder, "tend") as job:
        job.begin()
        with pytest.raises(BusyError, match="`nextmem tend` is at work"):
            forget(bank, ["a"])
        assert forget(bank, ["a"], dry_run=True).documents == 1
    with Presence(bank.folder, "forget", remembered=False) as job:
        job.begin()
        for now in (True, False):
            with pytest.raises(BusyError, match="`nextmem forget` is at work"):
                tend(bank, orphan_hours=0, version_hours=0, now=now)
    assert reopened(bank).version == 2 and {job.kind for job in job_records(bank.folder)} == {"tend"}


def test_a_forgotten_document_that_another_tool_puts_back_is_a_problem(bank):
    before = bank.files()
    forget(bank, ["a"])
    (file,) = (name for name in before if "u1" in name)
    again = next(each for each in receipt(bank, "u1", {"a": 2, "b": 3}).files if each.path == file)
    assert swap(bank, [*remove_actions(bank.files()), *add_actions([again])], {})
    assert [str(problem) for problem in first_problems(bank)] == [
        "document 'a': is there, and was forgotten in version 3"
    ]


def test_info_says_how_many_are_forgotten(bank):
    forget(bank, ["a", "c"])
    found = info(reopened(bank))
    assert (found.documents, found.forgotten) == (2, 2)


def _die(uri, moment):
    """Forget a and c, and end by SIGKILL at a moment of it."""

    def kill(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "the list is written":
        forget_module.without_documents = kill
    elif moment == "the rows are rewritten":
        commit_module.CommitProperties = kill
    else:
        forget_module.forgot = kill
    forget(Bank.open(uri), ["a", "c"])


@pytest.mark.parametrize("moment", ["the list is written", "the rows are rewritten", "the commit is made"])
def test_a_forget_that_is_killed_leaves_all_or_nothing_and_the_same_call_goes_on(bank, moment):
    process = multiprocessing.get_context("spawn").Process(target=_die, args=(bank.folder.uri, moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and bank.folder.names("_forgotten")
    made = moment == "the commit is made"
    assert held(bank) == ({"b": 3, "d": 1} if made else {"a": 2, "b": 3, "c": 1, "d": 1})
    assert sorted(reopened(bank).forgotten().among("abcd")) == (["a", "c"] if made else [])
    done = forget(bank, ["a", "c"])
    assert (done.documents, done.already) == ((0, 2) if made else (2, 0))
    assert held(bank) == {"b": 3, "d": 1} and first_problems(reopened(bank)) == []
    bring_back(bank)
    assert held(bank) == {"a": 2, "b": 3, "c": 1, "d": 1}
