"""An index finds what reading every row finds; where it does not fit the bank it says so, and every row is read."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from banks import IDENTITY, E, receipt, rows

from pipeline.bank.bank import Bank
from pipeline.bank.build_index import build_index
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.find import find
from pipeline.bank.forget import forget
from pipeline.bank.index import open_index
from pipeline.bank.search import nearest
from pipeline.bank.tend import tend

QUERY = np.random.default_rng(3).normal(size=E)


@pytest.fixture
def bank(tmp_path):
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    commit(bank, [receipt(bank, f"u{n}", {f"d{n}-{m}": 5 for m in range(8)}, seed=n) for n in range(3)])
    return bank


@pytest.fixture
def many(tmp_path):
    """3,000 rows around 100 centres."""
    bank = Bank.create(tmp_path / "many", IDENTITY)
    random = np.random.default_rng(1)
    table = rows("u1", {f"d{n}": 10 for n in range(300)})
    vectors = np.repeat(random.normal(size=(100, E)), 30, axis=0) + 0.3 * random.normal(size=(3000, E))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    place = table.schema.get_field_index("embedding")
    values = pa.array(vectors.astype(np.float32).tolist(), pa.list_(pa.float32()))
    table = table.set_column(place, table.schema.field(place), values)
    commit(bank, [Receipt("u1", tuple(bank.writer().write("u1", table)), chunks=3000)])
    return bank


def search(bank, said, k=5, **options):
    hits = find(bank, "query", k, by="latents", embed=lambda query: QUERY, weight=float, say=said.append, **options)
    return [hit.chunk_id for hit in hits]


def scanned(bank, k=5):
    return [hit.chunk_id for hit in nearest(bank, QUERY, k)]


def about(bank):
    """The only one there is."""
    [path] = Path(bank.folder.uri, "_index").glob("*/about.json")
    return path


@pytest.mark.parametrize("k", [1, 5, 119, 120, 500])
def test_a_small_bank_s_index_finds_what_reading_every_row_finds(bank, k):
    made = build_index(bank)
    assert (made.rows, made.lists, made.recall) == (120, 1, 1.0)
    found, true = open_index(bank).nearest(QUERY, k), nearest(bank, QUERY, k)
    assert [(hit.chunk_id, hit.doc_id, hit.position) for hit in found] == [
        (hit.chunk_id, hit.doc_id, hit.position) for hit in true
    ]
    assert np.allclose([hit.score for hit in found], [hit.score for hit in true], atol=1e-6)


def test_a_large_bank_s_index_reads_few_lists_and_finds_as_much_as_was_asked_for(many):
    made = build_index(many, recall=0.9)
    assert made.lists == 75 and made.probes < 40 and 0.9 <= made.recall <= 1
    index, shares = open_index(many), []
    for query in np.random.default_rng(4).normal(size=(30, E)):
        ours, true = ({hit.chunk_id for hit in found} for found in (index.nearest(query, 10), nearest(many, query, 10)))
        shares.append(len(ours & true) / 10)
    assert np.mean(shares) > 0.8
    assert build_index(many, recall=1.0).probes > made.probes


def test_where_the_lists_that_are_read_hold_too_few_every_row_is_read(many):
    build_index(many, recall=0.5)
    assert open_index(many).nearest(QUERY, 2900) is None
    assert search(many, [], k=2900) == scanned(many, 2900)


def test_a_search_uses_the_index_while_it_fits(bank, monkeypatch):
    build_index(bank)
    monkeypatch.setattr("pipeline.bank.find.nearest", lambda *arguments, **options: pytest.fail("every row was read"))
    said = []
    assert len(search(bank, said)) == 5 and said == []


def test_with_a_filter_every_row_is_read(bank):
    build_index(bank)
    assert len(search(bank, [], k=50, filter=pc.field("doc_id") == "d1-3")) == 5


@pytest.mark.parametrize("change", ["add", "replace", "forget"])
def test_after_a_change_the_index_is_passed_over_aloud_until_it_is_built_anew(bank, change):
    build_index(bank)
    if change == "forget":
        forget(bank, ["d1-3"])
    else:
        commit(bank, [receipt(bank, "u9", {"d1-3": 2}, seed=9, replaces=("d1-3",) if change == "replace" else ())])
    said = []
    assert search(bank, said, k=200) == scanned(bank, 200)
    assert said == [
        f"the index of {bank.folder.uri} is of version 1, and the rows have changed up to version {bank.version}: "
        "every row is read; `nextmem index` builds it anew"
    ]
    build_index(bank)
    said.clear()
    assert search(bank, said, k=bank.count()) == scanned(bank, bank.count()) and said == []
    assert json.loads(about(bank).read_text())["version"] == bank.version


def test_a_commit_that_changes_no_row_leaves_the_index_fitting(bank):
    build_index(bank)
    commit(bank, [Receipt("u9")])
    said = []
    assert search(bank, said) == scanned(bank) and said == []


@pytest.mark.parametrize("name", ["vectors.faiss", "places.arrow", "about.json"])
@pytest.mark.parametrize("how", ["cut", "noise", "gone"])
def test_a_torn_index_is_passed_over_aloud(bank, name, how):
    build_index(bank)
    path = about(bank).parent / name
    content = path.read_bytes()
    torn = {"cut": content[: len(content) // 2], "noise": bytes(len(content))}.get(how)
    path.unlink() if torn is None else path.write_bytes(torn)
    said = []
    assert search(bank, said) == scanned(bank)
    gone = name == "about.json" and how == "gone"
    assert len(said) == (0 if gone else 1) and all("is torn (" in line or "version" in line for line in said)


def test_another_bank_s_index_and_another_format_are_passed_over_aloud(bank, tmp_path):
    other = Bank.create(tmp_path / "other", IDENTITY)
    commit(other, [receipt(other, "u1", {"x": 9})])
    build_index(other)
    shutil.copytree(tmp_path / "other" / "_index", tmp_path / "bank" / "_index")
    said = []
    assert search(bank, said) == scanned(bank) and "was built for another bank: every row is read" in said[0]
    values = json.loads(about(bank).read_text())
    about(bank).write_text(json.dumps(values | {"format": 7}))
    said.clear()
    assert search(bank, said) == scanned(bank) and "has format 7, this nextmem reads 1" in said[0]


def test_without_the_library_every_row_is_read_and_building_says_what_to_install(bank, monkeypatch):
    build_index(bank)
    monkeypatch.setitem(sys.modules, "faiss", None)
    said = []
    assert search(bank, said) == scanned(bank) and "pip install 'nextmem[index]'" in said[0]
    with pytest.raises(ValueError, match="faiss-cpu, which is not installed"):
        build_index(bank)
    assert [path.name for path in about(bank).parents[1].iterdir()] == [about(bank).parent.name]


def test_tending_now_leaves_no_index_that_names_what_is_forgotten(bank):
    build_index(bank)
    forget(bank, ["d1-3"])
    tend(bank, orphan_hours=1, version_hours=1, now=True)
    said = []
    assert open_index(Bank.open(bank.folder.uri), said.append) is None and said == []


def test_an_empty_bank_and_a_share_beyond_one_are_refused(tmp_path, bank):
    with pytest.raises(ValueError, match="is empty: `nextmem encode` fills it"):
        build_index(Bank.create(tmp_path / "empty", IDENTITY))
    with pytest.raises(ValueError, match=r"recall is 1\.5"):
        build_index(bank, recall=1.5)


def test_the_command_says_what_it_built_and_a_search_after_it_is_the_same(nextmem, articles, tmp_path):
    bank = shutil.copytree(articles, tmp_path / "bank")
    before = nextmem("search", bank, "fox", "--json").records
    ran = nextmem("index", bank)
    assert ran.code == 0 and "recall@10  100.0 % of what reading every row finds" in ran.out
    after = nextmem("search", bank, "fox", "--json").records
    assert [row["chunk_id"] for row in after] == [row["chunk_id"] for row in before]
