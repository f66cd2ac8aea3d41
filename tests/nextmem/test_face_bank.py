"""A bank from Python: the tiny codec, without Ray."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from works import ARTICLES

import nextmem
from model.backbone import load_backbone
from pipeline.bank.bank import Bank as Table
from pipeline.bank.presence import Presence


@pytest.fixture
def bank(articles):
    with nextmem.open(articles) as opened:
        yield opened


@pytest.fixture
def own(articles, tmp_path):
    """A copy that a test may change."""
    with nextmem.open(shutil.copytree(articles, tmp_path / "bank")) as opened:
        yield opened


def test_a_hit_gives_its_text_when_it_is_asked_for(bank):
    best, *others = bank.search(ARTICLES["fox"][:32], k=3)
    assert (best.doc_id, best.position, best.char_start, best.char_end) == ("fox", 0, 0, 32)
    assert best.score == pytest.approx(1, abs=1e-4) and all(hit.score <= best.score for hit in others)
    assert best.text == ARTICLES["fox"][:32] and best.recalled.exact
    for hit in others:
        assert hit.text == ARTICLES[hit.doc_id][hit.char_start : hit.char_end]


def test_a_hit_as_a_dict_says_where_the_chunk_is(bank):
    (hit,) = bank.search("a dog", k=1)
    assert set(hit.as_dict()) == {"chunk_id", "doc_id", "position", "source", "char_start", "char_end", "score"}
    assert "_texts" not in repr(hit)


@pytest.mark.parametrize(
    "filter",
    [
        {"doc_id": "tokyo"},
        {"doc_id": ["tokyo", "none"]},
        {"doc_id": "tokyo", "text": None},
        pc.field("doc_id") == "tokyo",
        "doc_id = tokyo and not text is not null",
        ["doc_id like 't%'", "position >= 0"],
    ],
    ids=["value", "list", "two", "expression", "text", "texts"],
)
def test_a_filter_keeps_a_search_to_its_rows(bank, filter):
    hits = bank.search("the fox and the dog", k=50, filter=filter)
    assert {hit.doc_id for hit in hits} == {"tokyo"}
    assert len(hits) == bank.to_arrow(["chunk_id"], filter=filter).num_rows < len(bank)
    assert [row.doc_id for row in bank.recalled(filter=filter)] == ["tokyo"] * len(hits)


def test_an_empty_dict_filters_nothing(bank):
    assert len(bank.search("the fox", k=50, filter={})) == len(bank)


@pytest.mark.parametrize(
    ("filter", "said"),
    [
        ({"topik": "space"}, "no column 'topik' to filter by; it has chunk_id, doc_id"),
        ("topik = space", "no column 'topik' to filter by; it has chunk_id, doc_id"),
        (pc.field("topik") == "space", "does not fit the bank's columns: No match for FieldRef.Name"),
        ({"position": "first"}, "'first' is no value of the column position, which is int32"),
        ({"position": [0, "first"]}, "'first' is no value of the column position, which is int32"),
        ("position = first", "'first' is no value of the column position, which is int32"),
        (pc.field("position") == "first", "does not fit the bank's columns: Function 'equal' has no kernel"),
        (pc.field("position") + 1, "does not fit the bank's columns: Filter expression must evaluate to bool"),
        ("position =", "it ends where a value was wanted"),
    ],
)
def test_a_filter_that_does_not_fit_is_refused_before_anything_is_read(bank, filter, said):
    for call in (
        lambda: bank.search("x", filter=filter),
        lambda: bank.recalled(filter=filter),
        lambda: bank.refine(filter=filter),
    ):
        with pytest.raises(nextmem.Refusal) as refused:
            call()
        assert said in str(refused.value)


def test_what_is_no_filter_is_a_type_error(bank):
    for filter in (3, [3], object()):
        with pytest.raises(TypeError, match="a filter is a text, a dict of column to value or a pyarrow expression"):
            bank.to_arrow(filter=filter)


def test_a_dict_means_its_columns_types(bank):
    """0.1 is not among the float32 that it is compared with, and 1 is not int64 everywhere."""
    fidelity = bank.to_arrow(["fidelity"])["fidelity"].to_pylist()[0]
    assert bank.to_arrow(filter={"fidelity": fidelity}).num_rows >= 1
    late = bank.to_arrow(["encoded_at"])["encoded_at"][0]
    assert bank.to_arrow(filter={"encoded_at": late.as_py()}).num_rows == len(bank)
    assert bank.to_arrow(filter={"encoded_at": late.as_py().isoformat()}).num_rows == len(bank)


def test_documents_and_chunks_are_recalled_exactly(bank):
    assert {doc_id: bank.recall(doc_id=doc_id) for doc_id in ARTICLES} == ARTICLES
    row = bank.to_arrow(["chunk_id", "doc_id", "char_start", "char_end"]).to_pylist()[1]
    assert bank.recall(chunk_id=row["chunk_id"]) == ARTICLES[row["doc_id"]][row["char_start"] : row["char_end"]]


def test_all_rows_stream_and_say_how_far_they_are(bank):
    told = []
    rows = list(bank.recalled(batch_size=2, on_progress=lambda done, of: told.append((done, of))))
    assert len(rows) == len(bank) and all(row.exact for row in rows)
    assert told[0] == (0, len(bank)) and told[-1] == (len(bank), len(bank)) and len(told) > 2


def test_latents_alone_are_not_called_exact(bank):
    assert not any(row.exact for row in bank.recalled(doc_id="fox", patched=False))


@pytest.mark.parametrize("given", [{"doc_id": "tokio"}, {"chunk_id": "feed"}])
def test_an_id_that_is_not_there_is_named(bank, given):
    with pytest.raises(nextmem.NotInBank, match=next(iter(given.values()))):
        bank.recall(**given)
    with pytest.raises(KeyError):
        bank.recall(**given)


def test_what_makes_no_sense_is_a_type_error(bank):
    with pytest.raises(TypeError, match="one of chunk_id and doc_id"):
        bank.recall()
    with pytest.raises(TypeError, match="one of chunk_ids, doc_id and filter"):
        bank.recalled(doc_id="fox", filter={"doc_id": "fox"})
    for call in (bank.latents, lambda one: bank.recalled(chunk_ids=one)):
        with pytest.raises(TypeError, match="a list of chunk ids, not one id"):
            call("feed")


@pytest.mark.parametrize("query", ["", " \n"])
def test_an_empty_query_is_refused_before_anything_is_loaded(articles, query):
    with nextmem.open(articles) as bank, pytest.raises(ValueError, match="the query is empty"):
        bank.search(query)
    assert bank._codec is None


def test_a_row_that_is_not_exact_is_raised_never_given(own):
    path = next(name for name in Table.open(own.path).files())
    rows = pq.read_table(f"{own.path}/{path}")
    wrong = rows.set_column(rows.schema.get_field_index("text_hash"), "text_hash", [["0" * 32] * rows.num_rows])
    pq.write_table(wrong, f"{own.path}/{path}")
    with pytest.raises(nextmem.InexactRecall, match="document 'fox', position 0"):
        own.recall(doc_id="fox")
    with pytest.raises(nextmem.InexactRecall):
        _ = own.search("a fox", k=1)[0].text
    assert [row.exact for row in own.recalled(doc_id="fox")] == [False, False]


def test_latents_have_a_row_a_chunk_in_the_order_asked_for_and_fit_the_backbone(bank):
    ids = bank.to_arrow(["chunk_id"])["chunk_id"].to_pylist()[:3]
    found = bank.latents(ids[::-1])
    assert found.chunk_ids == tuple(ids[::-1]) and found.values.shape == (3, 3, 64)
    assert found.values.dtype == torch.float32
    assert torch.equal(found.values, bank.latents(ids).values.flip(0))
    embeds, backbone = found.as_embeds(), load_backbone("tiny-llama", precision="fp32", device="cpu")
    assert embeds.shape == (3, 3, 64) and embeds.dtype == backbone.dtype
    assert backbone.model(inputs_embeds=embeds).logits.shape == (3, 3, backbone.vocab_size)


def test_info_status_and_verify_say_what_the_bank_is(bank):
    info, status = bank.info(), bank.status()
    assert (info.documents, info.chunks) == (3, len(bank))
    assert (status.version, status.chunks, status.active, status.jobs) == (bank.version, len(bank), False, ())
    told = []
    verdict = bank.verify(on_progress=lambda done, of: told.append((done, of)))
    assert verdict.whole and (verdict.chunks, verdict.decoded) == (len(bank), len(bank))
    assert told[0] == (0, len(bank)) and told[-1] == (len(bank), len(bank))
    assert bank.verify(sample=2).decoded == 2


def test_a_torn_file_is_found_and_taken_out_when_asked(own):
    (name,) = Table.open(own.path).files()
    with open(f"{own.path}/{name}", "r+b") as file:
        file.truncate(1000)
    verdict = own.verify()
    assert not verdict.whole and verdict.decoded == 0 and verdict.problems[0].where == name
    mended = own.verify(repair=True)
    assert mended.whole and mended.dropped == (name,) and [p.where for p in mended.damaged] == [name]
    assert len(own) == 0


def test_rows_as_arrow_with_the_columns_asked_for(bank):
    assert bank.to_arrow().schema.names == bank.schema.names
    assert bank.to_arrow(["doc_id", "position"]).column_names == ["doc_id", "position"]
    assert bank.to_arrow().num_rows == len(bank)


def test_an_export_is_plain_parquet_of_every_row(bank, tmp_path):
    made = bank.export(tmp_path / "out")
    assert made.rows == len(bank) == pq.read_table(tmp_path / "out" / "data").num_rows
    with pytest.raises(FileExistsError, match="not empty"):
        bank.export(tmp_path / "out")


def test_refining_raises_rows_and_recall_stays_exact(own):
    told, before = [], own.version
    done = own.refine(1, filter={"doc_id": "fox"}, on_progress=lambda rows, of: told.append((rows, of)))
    assert (done.rows, done.steps) == (2, 2) and told == [(0, 2), (2, 2)] and own.version > before
    assert own.recall(doc_id="fox") == ARTICLES["fox"]
    assert own.refine(1, filter={"doc_id": "fox"}).rows == 0


def test_tending_an_older_version_tends_the_newest_and_its_rows_stay(own):
    own.refine(1)
    with nextmem.open(own.path, version=1) as older:
        assert older.tend(dry_run=True, orphan_hours=0).orphans == ()
        older.tend(orphan_hours=0, version_hours=0)
    own.reload()
    assert own.verify().whole and {doc_id: own.recall(doc_id=doc_id) for doc_id in ARTICLES} == ARTICLES


def test_upkeep_refuses_beside_another_job(own):
    with Presence(Table.open(own.path).folder, "tend") as job:
        job.begin(state="tending")
        for upkeep in (own.refine, own.tend):
            with pytest.raises(nextmem.Refusal, match="`nextmem tend` is at work on"):
                upkeep()
        assert own.status().active


@pytest.mark.parametrize(
    "call, name, hint", [("refine", "refine_mots", "refine_most"), ("tend", "orphan_hour", "orphan_hours")]
)
def test_a_misspelt_setting_is_a_type_error_with_a_hint(own, call, name, hint):
    with pytest.raises(TypeError, match=f"there is no setting '{name}': did you mean {hint}?"):
        getattr(own, call)(**{name: 1})


def test_a_bank_stands_on_its_version_until_it_is_reloaded(own):
    with nextmem.open(own.path) as other:
        other.refine(1)
        assert own.version == 1 < other.version
        assert own.recall(doc_id="fox") == ARTICLES["fox"]
        assert own.reload() == other.version


def test_what_is_no_bank_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a memory bank"):
        nextmem.open(tmp_path)


def test_the_codec_is_loaded_once_and_let_go_when_the_bank_is_closed(articles):
    with nextmem.open(articles) as bank:
        assert bank._codec is None
        assert bank.codec()._codec is bank.codec()._codec is bank._codec
    assert bank._codec is None


def test_a_banks_codec_encodes_and_decodes_as_the_bank_does(bank):
    codec = bank.codec()
    (memory,) = codec.encode([ARTICLES["tokyo"]])
    assert codec.decode([memory]) == [ARTICLES["tokyo"]]
    assert torch.equal(memory.latents.values, bank.latents(ids_of(bank, "tokyo")).values)


def ids_of(bank, doc_id):
    rows = bank.to_arrow(["chunk_id", "position"], filter={"doc_id": doc_id})
    return rows.sort_by("position")["chunk_id"].to_pylist()


def test_a_closed_bank_refuses_with_one_line(articles):
    with nextmem.open(articles) as bank:
        rows = bank.recalled()
        next(rows)
    calls = [
        lambda: bank.search("x"),
        lambda: bank.recall(doc_id="fox"),
        lambda: next(rows),
        lambda: len(bank),
        bank.info,
    ]
    for call in [*calls, bank.verify, bank.refine, bank.tend, bank.status, bank.to_arrow, bank.reload, bank.codec]:
        with pytest.raises(ValueError, match=f"the bank {articles} is closed: open it again with nextmem.open"):
            call()
    bank.close()


def test_two_threads_search_and_recall_at_once_and_get_the_right_texts(articles):
    with nextmem.open(articles) as bank, ThreadPoolExecutor(4) as threads:
        alone = [(hit.chunk_id, hit.score) for hit in bank.search("lazy dog", k=3)]
        texts = [threads.submit(bank.recall, doc_id=doc_id) for doc_id in list(ARTICLES) * 4]
        hits = [threads.submit(bank.search, "lazy dog", 3) for _ in range(4)]
        alls = [threads.submit(lambda: [row.text for row in bank.recalled()]) for _ in range(2)]
        assert [text.result() for text in texts] == list(ARTICLES.values()) * 4
        assert all([(hit.chunk_id, hit.score) for hit in found.result()] == alone for found in hits)
        assert ["".join(found.result()) for found in alls] == ["".join(ARTICLES.values())] * 2


def test_a_bank_says_where_it_is(bank, articles):
    assert (bank.path, repr(bank)) == (articles, f"nextmem.open({articles!r}, version=1)")
