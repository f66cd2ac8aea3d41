"""A text that is changed and changed back ends as it began."""

from pipeline.corpus.documents import ColumnRoles
from pipeline.plan.plan import plan_corpus


def planned(folder, text):
    (folder / "a.txt").write_text(text)
    return plan_corpus([str(folder)], ColumnRoles(), unit_chunks=8, folder=str(folder.parent / "plans"))


def held(plan):
    units = plan._file.units(0, [0], True)
    return [(i, h.hex()) for unit in units for i, h in zip(unit.doc_ids, unit.doc_hashes, strict=True)]


def test_a_reverted_document_is_encoded_again_although_its_unit_is_finished(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    first = planned(folder, "the first text")
    finished = set(first.unit_ids())
    second = planned(folder, "another text")
    bank_now = held(second)
    finished |= set(second.unit_ids())
    reverted = planned(folder, "the first text")
    assert list(reverted.against(bank_now, finished).units()) == []  # no replacement on record: nothing to look for
    (unit,) = reverted.against(bank_now, finished, replacements=1).units()
    assert unit.replaces == ("notes/a.txt",)
    assert unit.commit_id == f"{unit.unit_id}-1" and unit.commit_id not in finished


def test_what_was_lost_is_encoded_again_once(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "b.txt").write_text("another document, which stays")
    plan = planned(folder, "the first text")
    finished = set(plan.unit_ids())
    stays = [pair for pair in held(plan) if pair[0] == "notes/b.txt"]
    (unit,) = plan.against(stays, finished, replacements=3, losses=True).units()
    assert (unit.new_documents, unit.commit_id) == (1, f"{unit.unit_id}-3")
    (everything,) = plan.against([], finished, replacements=3, losses=True).units()
    assert everything.new_documents == 2
    again = finished | {unit.commit_id}  # whatever it left out, an encoder had its reasons
    assert list(plan.against(stays, again, replacements=3, losses=True).units()) == []


def test_a_bank_that_holds_nothing_any_more_gets_nothing_back(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    plan = planned(folder, "the first text")
    assert list(plan.against([], set(plan.unit_ids()), replacements=1).units()) == []


def test_a_deleted_document_stays_deleted(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    plan = planned(folder, "the first text")
    assert list(plan.against([("other", "00" * 16)], set(plan.unit_ids()), replacements=1).units()) == []
