"""What a bank forgot is left out of plans, whatever becomes of the corpus, and beside a job that runs already."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from works import jsonl

from pipeline.bank.bank import Bank
from pipeline.bank.bring_back import bring_back
from pipeline.bank.commit import commit, swap
from pipeline.bank.forget import forget
from pipeline.bank.problems import first_problems
from pipeline.bank.rejected import write_rejected
from pipeline.bank.transaction_log import list_transaction
from pipeline.bank.upkeep import drop
from pipeline.corpus.documents import ENCODER, ColumnRoles, Rejected, document_hash
from pipeline.encode.bank_work import bank_work
from pipeline.encode.committer import commit_as_they_come
from pipeline.encode.summary import Tally, summarise
from pipeline.plan.plan import plan_corpus

TEXTS = {name: f"The text of {name}. It is short." for name in ("ant", "bee", "cat", "dog")}


def planned(folder, texts):
    """A corpus as it is now."""
    corpus = jsonl(folder / "corpus.jsonl", texts)
    return plan_corpus([str(corpus)], ColumnRoles(), unit_chunks=1000, folder=str(folder / "plan"))


def documents(bank):
    return sorted(doc_id for doc_id, _ in Bank.open(bank.folder.uri).documents())


def encoded(works, work):
    """Do what is left to do, and commit it."""
    return commit(works.bank, [works.encode(unit).receipt for unit in work.units()])


@pytest.fixture
def made(works):
    """A bank of all four documents, in one unit."""
    works = works(TEXTS)
    commit(works.bank, [works.encode().receipt])
    return works


@pytest.mark.parametrize("more", [{}, {"eel": "A new one."}, {"bee": "The bee has another text."}])
def test_a_forgotten_document_stays_gone_when_its_corpus_grows_or_changes(made, tmp_path, more):
    forget(made.bank, ["bee"])
    work = bank_work(planned(tmp_path, TEXTS | more), made.bank)
    assert (work.counts.forgotten, work.counts.held, work.counts.changed) == (1, 3, 0)
    assert work.counts.documents == (1 if "eel" in more else 0)
    encoded(made, work)
    assert documents(made.bank) == sorted(["ant", "cat", "dog", *more.keys() - {"bee"}])
    again = bank_work(planned(tmp_path, TEXTS | more), made.bank)
    assert (again.counts.units, again.counts.forgotten) == (0, 1)


def test_it_stays_gone_when_files_are_lost_and_a_rerun_encodes_what_is_missing(made, tmp_path):
    forget(made.bank, ["bee"])
    (file,) = made.bank.files()
    Path(made.bank.folder.uri, file).unlink()
    drop(made.bank, [file])
    work = bank_work(planned(tmp_path, TEXTS), made.bank)
    assert (work.counts.documents, work.counts.forgotten) == (3, 1)
    encoded(made, work)
    assert documents(made.bank) == ["ant", "cat", "dog"] and first_problems(made.bank) == []


def test_it_stays_gone_when_rejected_documents_are_tried_again(made, tmp_path):
    (unit,) = made.bank.finished_units()
    name = write_rejected(made.bank.folder, unit, [Rejected("corpus.jsonl:2", "bee", "it failed", "", ENCODER)])
    swap(made.bank, [], {}, [list_transaction(name)])
    forget(made.bank, ["bee"])
    work = bank_work(planned(tmp_path, TEXTS), made.bank, retry_rejected=True)
    assert (work.counts.documents, work.counts.forgotten) == (0, 1)


def test_what_is_brought_back_is_held_again(made, tmp_path):
    forget(made.bank, ["bee"])
    bring_back(made.bank)
    work = bank_work(planned(tmp_path, TEXTS), made.bank)
    assert (work.counts.units, work.counts.held, work.counts.forgotten) == (0, 4, 0)


def test_what_is_brought_back_with_a_text_that_its_corpus_has_changed_since_is_encoded_anew(made, tmp_path):
    changed = TEXTS | {"bee": "The bee has another text."}
    forget(made.bank, ["bee"])
    encoded(made, bank_work(planned(tmp_path, changed | {"eel": "A new one."}), made.bank))
    bring_back(made.bank)
    work = bank_work(planned(tmp_path, changed | {"eel": "A new one."}), made.bank)
    assert (work.counts.changed, work.counts.documents) == (1, 1)
    encoded(made, work)
    assert dict(made.bank.documents())["bee"] == document_hash(changed["bee"])


def test_a_running_job_brings_nothing_back_that_is_forgotten_meanwhile_and_its_summary_counts_it(made, tmp_path):
    """Every text has changed, two documents a unit. Once the first unit is committed, a document of each goes."""
    changed = {name: f"Another text of {name}." for name in TEXTS}
    corpus = jsonl(tmp_path / "corpus.jsonl", changed)
    plan = plan_corpus([str(corpus)], ColumnRoles(), unit_chunks=2, folder=str(tmp_path / "plan"))
    job, tally = Bank.open(made.bank.folder.uri), Tally()
    first, second = bank_work(plan, job).units()

    def outcomes():
        yield made.encode(first)
        late = made.encode(second)
        while not job.is_finished(first.commit_id):
            time.sleep(0.01)
        assert forget(made.bank, ["ant", "dog"]).documents == 2
        yield late

    for group in commit_as_they_come(job, outcomes(), every=0):
        tally.add(group)
    assert documents(job) == ["bee", "cat"] and first_problems(Bank.open(job.folder.uri)) == []
    assert dict(job.documents()) == {name: document_hash(changed[name]) for name in ("bee", "cat")}
    summary = summarise(tally, held=0, duplicates=0, replaced=4, seconds=1.0, start_up_seconds=0.0)
    assert (summary.documents, summary.forgotten, summary.chunks) == (3, 1, job.count() + 1)
