"""A bank with less in each row, fewer latents or fewer bits: exact as before, whole after a kill, refused for more."""

from __future__ import annotations

import shutil

import pytest
from works import ARTICLES, Works, jsonl

from pipeline.bank import lower_rate as module
from pipeline.bank.bank import Bank
from pipeline.bank.commit import commit
from pipeline.bank.forget import forget
from pipeline.bank.lower_rate import DONE, lower_rate
from pipeline.bank.opened import load_bank_codec
from pipeline.bank.problems import first_problems
from pipeline.bank.recall import InexactRecall, recall
from pipeline.schema import CHUNK_ID, CODES, EMBEDDING, PATCH, REFINE_STEPS, SCALES

WIDTH = 64


class KilledError(Exception):
    pass


def texts(bank):
    found = {}
    for row in recall(bank.rows(), load_bank_codec(bank)):
        assert row.exact
        found[row.doc_id] = found.get(row.doc_id, "") + row.text
    return found


def values(bank, *names):
    return [row for batch in bank.rows(list(names)) for row in batch.to_pylist()]


@pytest.fixture
def old(tmp_path, tiny_codec_folder, monkeypatch):
    """A bank of three files, one a document."""
    from pipeline.encode import encode_work

    monkeypatch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
    works = Works(tmp_path, tiny_codec_folder, jsonl(tmp_path / "corpus.jsonl", ARTICLES), unit_chunks=1)
    for unit in works.units:
        commit(works.bank, [works.encode(unit).receipt])
    return Bank.open(works.bank.folder.uri)


@pytest.mark.parametrize(("latents", "bits"), [(2, 4), (None, 3), (1, 2)])
def test_rows_are_smaller_recall_exactly_and_are_otherwise_the_same(articles, tmp_path, latents, bits):
    old, out = Bank.open(articles), str(tmp_path / "new")
    made = lower_rate(old, out, latents=latents, bits=bits)
    new = Bank.open(out)
    stored = latents or old.identity.num_latents
    assert (made.num_latents, made.quantiser, made.rows) == (stored, f"nf{bits}-standardised-64", old.count())
    assert (new.identity.num_latents, new.identity.quantiser) == (made.num_latents, made.quantiser)
    assert new.identity.codec_hash == old.identity.codec_hash
    sizes = {(len(row[CODES]), len(row[SCALES])) for row in values(new, CODES, SCALES)}
    assert sizes == {(stored * WIDTH * bits // 8, stored * WIDTH // 64 * 2)}
    assert texts(new) == ARTICLES and first_problems(new) == []
    same = [name for name in old.schema.names if name not in module.MADE]
    assert values(new, *same) == values(old, *same) and EMBEDDING in same


def test_a_killed_job_goes_on_where_it_was_and_at_the_version_where_it_began(old, tmp_path, monkeypatch):
    out, began, calls = str(tmp_path / "new"), old.version, []
    swap = module.swap

    def killed(bank, actions, *rest):
        calls.append(len(actions))
        if sum(map(bool, calls)) == 3:
            raise KilledError
        return swap(bank, actions, *rest)

    monkeypatch.setattr(module, "swap", killed)
    with pytest.raises(KilledError):
        lower_rate(old, out, bits=3)
    half = Bank.open(out)
    assert len(half.files()) == 2 and half.table.transaction_version(DONE) is None
    forget(old, doc_ids=["tokyo"])  # after the job began
    monkeypatch.setattr(module, "swap", swap)
    seen, verified = set(half.files()), []
    lower_rate(Bank.open(old.folder.uri), out, bits=3, on_progress=lambda done, of: verified.append((done, of)))
    new = Bank.open(out)
    assert seen < set(new.files()) and texts(new) == ARTICLES and first_problems(new) == []
    ids = [row[CHUNK_ID] for row in values(new, CHUNK_ID)]
    assert len(ids) == len(set(ids)) == new.count() == verified[-1][0] == verified[-1][1]
    as_it_was = Bank.open(old.folder.uri, version=began)
    assert new.finished_documents() == as_it_was.finished_documents() != {}


def test_rows_along_directions_are_of_a_codec_that_the_new_bank_holds(old, tmp_path, monkeypatch):
    """All 64 directions of 64 values are another basis. A start that did not come to its end does not change it."""
    swap, out = module.swap, str(tmp_path / "new")
    monkeypatch.setattr(module, "swap", lambda bank, actions, *rest: not actions and swap(bank, actions, *rest))
    with pytest.raises(module.ContendedError, match="changed under each"):
        lower_rate(old, out, bits=3, rank=64)
    monkeypatch.setattr(module, "swap", swap)
    with pytest.raises(FileExistsError, match="its rows are stored otherwise"):
        lower_rate(old, str(shutil.copytree(old.folder.uri, tmp_path / "other")), bits=3, rank=64)
    made = lower_rate(old, out, bits=3, rank=64)
    new = Bank.open(out)
    assert made.quantiser == "nf3-leading-64" and new.identity.codec_hash != old.identity.codec_hash
    assert texts(new) == ARTICLES and first_problems(new) == []
    with pytest.raises(ValueError, match="along the leading directions already"):
        lower_rate(new, str(tmp_path / "again"), rank=64)
    lower_rate(new, str(tmp_path / "fewer"), latents=1)
    assert texts(Bank.open(tmp_path / "fewer")) == ARTICLES


def test_a_bank_that_is_made_is_not_made_again(articles, tmp_path):
    out = str(tmp_path / "new")
    lower_rate(Bank.open(articles), out, latents=2)
    with pytest.raises(FileExistsError, match="is there already, with all its rows"):
        lower_rate(Bank.open(articles), out, latents=2)
    with pytest.raises(ValueError, match="num_latents: bank 2, codec 1"):
        lower_rate(Bank.open(articles), out, latents=1)


def test_a_bank_of_other_rows_is_not_written_to(articles, tmp_path):
    lower_rate(Bank.open(articles), str(tmp_path / "two"), latents=2)
    other = Bank.open(shutil.copytree(articles, tmp_path / "bank"))
    with pytest.raises(ValueError, match="holds another codec's rows"):
        lower_rate(Bank.open(articles), other.folder.uri, latents=2)


@pytest.mark.parametrize(
    ("latents", "bits", "words"),
    [
        (4, None, "stores 3 latents a row, 4 bits a value; 4 latents in 4 bits would need what was never stored"),
        (3, 4, "stores 3 latents a row, 4 bits a value already"),
        (0, None, "latents is 0"),
        (2, 5, "bits is 5"),
    ],
)
def test_more_than_is_stored_and_no_less_than_it_are_refused(articles, tmp_path, latents, bits, words):
    with pytest.raises(ValueError, match=words):
        lower_rate(Bank.open(articles), str(tmp_path / "new"), latents=latents, bits=bits)
    assert not (tmp_path / "new").exists()


def test_bits_do_not_come_back(articles, tmp_path):
    lower_rate(Bank.open(articles), str(tmp_path / "two"), bits=2)
    with pytest.raises(ValueError, match="3 latents in 3 bits would need"):
        lower_rate(Bank.open(tmp_path / "two"), str(tmp_path / "three"), bits=3)


def test_a_row_whose_tokens_cannot_be_had_is_named_and_nothing_of_its_file_comes(old, tmp_path):
    from pipeline.bank.commit import add_actions, remove_actions, swap

    rows = old.dataset().to_table()
    broken = rows.set_column(rows.schema.get_field_index(PATCH), rows.schema.field(PATCH), [[b"\x09"] * rows.num_rows])
    files = list(old.writer().write_files("kept", broken.to_batches()))
    swap(old, [*remove_actions(old.files()), *add_actions(files)], {})
    with pytest.raises(InexactRecall, match="does not recall exactly"):
        lower_rate(Bank.open(old.folder.uri), str(tmp_path / "new"), bits=3)
    assert Bank.open(tmp_path / "new").files() == []


def test_a_text_that_its_tokens_cannot_give_back_comes_along(works, tmp_path):
    works = works({"marks": "Zu\u0308rich \ufffd", "odd": "a\x00b"}, keep_text=True)
    commit(works.bank, [works.encode().receipt])
    lower_rate(works.bank, str(tmp_path / "new"), latents=1, bits=2)
    assert texts(Bank.open(tmp_path / "new")) == texts(works.bank)


def test_latents_that_were_refined_for_the_old_rate_count_as_not_refined(old, tmp_path):
    from model.config import RefineConfig
    from pipeline.bank.refine_bank import BankRefiner

    for _ in BankRefiner(old, load_bank_codec(old), RefineConfig(2)).refine():
        pass
    old.reload()
    assert {row[REFINE_STEPS] for row in values(old, REFINE_STEPS)} == {2}
    lower_rate(old, str(tmp_path / "new"), bits=2)
    new = Bank.open(tmp_path / "new")
    assert {row[REFINE_STEPS] for row in values(new, REFINE_STEPS)} == {None}
    for _ in BankRefiner(new, load_bank_codec(new), RefineConfig(2)).refine():
        pass
    new.reload()
    assert texts(new) == ARTICLES


def test_the_command_says_what_it_made(nextmem, refused, articles, tmp_path):
    ran = nextmem("convert", articles, tmp_path / "new", "--latents", "2", "--bits", "3")
    assert ran.code == 0 and "2 a chunk, nf3-standardised-64" in ran.out
    assert "3 latents a row" in refused("convert", articles, tmp_path / "more", "--latents", "8")
    usage = nextmem("convert", articles, tmp_path / "none")
    assert usage.code == 2 and "--latents, --bits, --rank" in usage.err
