"""The page made of an evaluation's results: what stands in it, and what a browser makes of it."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape

import pytest
from browser import browser, looked_at

from jobs.evaluate.report.cases import answers
from jobs.evaluate.report.charts import INK, SERIES, Dot, Line, dots, heat, lines
from jobs.evaluate.report.differences import differences, visible
from jobs.evaluate.report.names import shortened
from jobs.evaluate.report.page import lacking, page, write_page
from jobs.evaluate.report.paper import known_set, reported
from jobs.evaluate.report.short import in_short
from jobs.evaluate.report.tables import against, by_set, overview
from jobs.evaluate.results import Difference, Figure, Heat, Results, Sample, read_results

MADE = {
    "command": "nextmem evaluate default --data sets", "date": "2026-01-02T03:04:05+00:00", "seconds": 61.0,
    "nextmem": "0.1.0", "versions": {"torch": "2.11"}, "processor": "A processor", "cores": 2, "threads": 1,
    "device": "cpu", "data": "sets", "limit": 3, "seed": 0, "draws": 10000, "reader": "tiny-llama",
    "prompt": {"before": "", "after": ""}, "judge": None,
}  # fmt: skip
COSTS = {
    "encoded": 3, "encode_seconds": 0.3, "encodes": 1.0, "stored_bytes": 4860.0, "decoded": 3, "decode_seconds": 1.5,
    "embedded": 0, "embed_seconds": 0.0,
}  # fmt: skip
ORIGINAL, COPY = "Ana paid 50 to <b>Bo</b>.", "Ana paid 15 to <b>Bo</b>."


def figure(system: str, of: str, value: float, task: str = "reconstruct", metric: str = "f1", **at) -> Figure:
    return Figure(task, system, of, metric, value, value - 0.1, value + 0.1, 3, at)


@pytest.fixture(scope="module")
def results() -> Results:
    """Two codecs and the text on two sets, one of them the paper's."""
    systems = {
        name: {"kind": kind, "identity": "ab" * 16, "can": ["encode", "decode"], "base": None, "about": {"steps": 4},
               "costs": COSTS}
        for name, kind in (("default", "codec"), ("rival", "icae"), ("text", "text"))
    }  # fmt: skip
    figures = [
        *(figure("default", of, value) for of, value in (("eval_squad", 0.5), ("geese", 0.7))),
        *(figure("rival", of, value) for of, value in (("eval_squad", 0.4), ("geese", 0.9))),
        *(figure("text", of, 1.0) for of in ("eval_squad", "geese")),
        *(figure("default", "geese", 0.7 / (1 + sigma), "noise", sigma=sigma, norm=sigma) for sigma in (0.0, 0.8)),
        figure("default", "geese", 0.25, "answer", "gap", **{"from": "decoded"}),
        figure("reader", "geese", 3.5, "answer", "nats", **{"from": "text"}),
        figure("default", "geese", 0.5, "retrieve", "hit@5", pool="corpus"),
        figure("default", "geese", 0.5, "retrieve", "ndcg@10", pool="corpus"),
    ]
    samples = [
        Sample("reconstruct", "default", "geese", "g2", "All of it.", "All of it.", 1.0),
        Sample("reconstruct", "default", "geese", "g1", ORIGINAL, COPY, 0.8),
    ]
    heats = [Heat("default", "geese", [[1.0, 0.2], None], [2, 0], 1.0, 1.0)]
    sets = {
        name: {"texts": 3, "questions": 3, "corpus": 9, "of_corpus": 9, "with_pool": 0}
        for name in ("eval_squad", "geese")
    }
    absent = [{"task": "reconstruct", "system": None, "set": None, "metric": "METEOR", "why": "no word lists"}]
    faults = [{"task": "answer", "system": "rival", "set": "geese", "error": "no JSON"}]
    return Results(MADE, systems, sets, {}, figures, [], heats, samples, absent, faults)


def test_both_sides_of_a_difference_are_the_texts_again():
    left, right = differences(ORIGINAL, COPY)
    assert "".join(piece.text for piece in left) == ORIGINAL and "".join(piece.text for piece in right) == COPY
    assert [p.text for p in left if not p.same] == [" 50"] and [p.text for p in right if not p.same] == [" 15"]
    assert [p.text for p in left if p.same] == [p.text for p in right if p.same]


def test_control_characters_are_shown_and_lines_stay_lines():
    assert visible("a\x00b\rc\nd\te") == "a\u2400b\u240dc\nd\te"


@pytest.mark.parametrize(("original", "copy"), [("", "made up"), ("lost", ""), ("", "")])
def test_an_empty_side_has_no_pieces(original, copy):
    left, right = differences(original, copy)
    assert "".join(p.text for p in left) == original and "".join(p.text for p in right) == copy
    assert not any(p.same for p in left + right)


def test_the_main_table_is_means_over_sets_and_the_paper_s_over_its_own(results):
    table = overview(results)
    rows = {row.name: row for row in table.rows}
    assert table.columns[0] == "F1" and rows["default"].cells[0].text == "0.600"
    assert rows["rival"].cells[0].best and not rows["text"].cells[0].best  # 0.650; the text is no rival
    assert rows["NextMem-Dense"].paper and rows["NextMem-Dense"].cells[0].text == "0.892"  # squad alone
    assert not rows["default"].paper


def test_a_table_of_one_metric_has_a_column_a_set_and_intervals(results):
    own = [f for f in results.figures if f.task == "reconstruct"]
    table = by_set(own, metric="f1", sets=list(results.sets))
    assert table.columns == ["eval_squad", "geese"]
    assert (table.rows[0].cells[0].text, table.rows[0].cells[0].interval) == ("0.500", "0.400 to 0.600")
    assert table.rows[-1].name == "DyPRAG" and [c.text for c in table.rows[-1].cells] == ["0.049", ""]
    assert by_set(own, metric="bleu", sets=list(results.sets)) is None


def test_a_paired_difference_is_bold_only_where_it_is_more_than_chance():
    gaps = [
        Difference("reconstruct", "default", "rival", of, "f1", 0.1, low, 0.2, 3)
        for of, low in (("squad", -0.01), ("geese", 0.01))
    ]
    table = against(gaps, metric="f1", sets=["squad", "geese"])
    assert [(cell.text, cell.best) for cell in table.rows[0].cells] == [("+0.100", False), ("+0.100", True)]
    assert table.caption == "F1 of default less that of" and table.rows[0].name == "rival"
    assert against(gaps, metric="whole", sets=["squad"]) is None


def test_the_two_pools_never_share_a_row_of_the_paper():
    assert reported("retrieve", "hit@5", {"pool": "question"}) and not reported("retrieve", "hit@5", {"pool": "corpus"})
    assert (known_set("eval_longmemeval"), known_set("passages_wikitext2")) == ("longmemeval", None)


def test_the_page_says_all_it_takes_to_repeat_it(results):
    made = page(results)
    for said in (MADE["command"], "A processor", "torch 2.11", "ab" * 16, "2026-01-02", "no JSON", "no word lists"):
        assert said in made


def test_the_worst_case_stands_first_and_text_is_never_markup(results):
    made = page(results)
    assert made.index("g1, F1 0.80") < made.index("g2, F1 1.00")
    assert "<b>Bo" not in made and '<mark class="lost">50</mark>' in made and '<mark class="made">15</mark>' in made


def test_an_answer_stands_beside_what_the_text_alone_and_other_memories_made_the_reader_say(results):
    said = [("default", "decoded", "Bo"), ("reader", "text", "Ana"), ("default", "latents", "")]
    more = [Sample("answer", who, "geese", "q1", "Ana", made, 0.5, "Who <paid>?", {"from": source})
            for who, source, made in said]  # fmt: skip
    [replies] = answers(replace(results, samples=[*results.samples, *more]))
    assert [source for source, _, _ in replies.said] == ["text", "default, decoded", "default, latents"]
    made = page(replace(results, samples=[*results.samples, *more]))
    assert "Who &lt;paid&gt;?" in made and "<dd>(no word)" in made and "q1, F1" not in made


def test_what_stands_on_top_is_of_the_first_codec_as_a_bank_stores_it(results):
    assert in_short(results) == []  # none of its systems says that it is one
    stored = results.systems["default"] | {"about": {"form": "nf4"}}
    systems = {"untrained": stored} | results.systems | {"default": stored}
    found = in_short(replace(results, systems=systems))
    assert found[0] == "Its search has an nDCG@10 of 0.500 (0.400 to 0.600) in whole corpora."
    assert found[1].endswith("its decoded text closes 0.250 (0.150 to 0.350) of the gap to the text.")


def test_a_folder_s_path_is_shortened_to_what_tells_it_from_others(results):
    names = ("runs/icae/codec", "runs/icae/codec refined 8", "a/tiny", "b/tiny", "default")
    systems = {name: results.systems["default"] | {"base": "runs/icae/codec"} for name in names}
    figures = [figure(name, "geese", 0.5) for name in names]
    short = shortened(replace(results, systems=systems, figures=figures, differences=[], heats=[], samples=[]))
    assert list(short.systems) == ["icae", "icae refined 8", "a/tiny", "b/tiny", "default"]
    assert [f.system for f in short.figures] == list(short.systems)
    assert short.systems["icae"]["about"]["path"] == "runs/icae/codec" and short.systems["a/tiny"]["base"] == "icae"
    assert "path" not in short.systems["default"]["about"]


def test_what_is_absent_for_one_reason_is_said_once(results):
    why = "METEOR needs word lists"
    absent = [{"task": "reconstruct", "system": name, "set": "geese", "metric": "meteor", "why": why}
              for name in ("default", "text")]  # fmt: skip
    assert lacking(replace(results, absent=absent)) == [("reconstruct, geese, meteor (default, text)", why)]
    twice = [*absent, absent[0] | {"set": "ducks"}]
    assert lacking(replace(results, absent=twice)) == [("reconstruct, 2 sets, meteor (default, text)", why)]


def test_the_page_asks_nothing_of_a_network(results):
    made = page(results)
    assert "default-src 'none'" in made
    assert not re.findall(r"(?:src|href)=\"(?!#)[^\"]*", made) and "@import" not in made and "url(http" not in made


def test_an_evaluation_without_figures_is_a_page_too(results, tmp_path):
    write_page(replace(results, figures=[], heats=[], samples=[]), tmp_path / "report.html")
    assert "To repeat it" in (tmp_path / "report.html").read_text() and len(list(tmp_path.iterdir())) == 1


def test_plots_take_the_page_s_colours_and_are_the_same_each_time():
    drawn = [
        dots([Dot("a", 0.5, 0.4, 0.6), Dot("b", None, paper=0.9)], label="F1"),
        lines([Line("a", [1, 2], [0.5, 0.4], [0.4, 0.3], [0.6, 0.5])], x="tokens", y="F1", log=True),
        heat([[1.0, 0.5], None], x="latent", y="place", label="a"),
    ]
    for svg in drawn:
        assert "var(--ink)" in svg and INK not in svg and not any(colour in svg for colour in SERIES)
        assert svg.startswith('<svg viewBox="') and "font-family" not in svg
    assert drawn[0] == dots([Dot("a", 0.5, 0.4, 0.6), Dot("b", None, paper=0.9)], label="F1")


@pytest.mark.skipif(browser() is None, reason="no Chromium on the path")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_whole_at_the_width_of_a_phone_and_of_a_desk(results, tmp_path, width):
    seen = looked_at(page(results), tmp_path, width=width)
    assert seen["wide"] <= seen["window"] == width  # only tables scroll, each in its own box
    assert seen["lowest"] >= 9 and seen["tall"] > 900 and seen["loaded"] == 0


@pytest.mark.skipif(browser() is None, reason="no Chromium on the path")
def test_the_page_is_dark_where_the_reader_s_screen_is(results, tmp_path):
    light, dark = (looked_at(page(results), tmp_path, width=390, dark=kind) for kind in (False, True))
    assert (light["back"], dark["back"]) == ("rgb(255, 255, 255)", "rgb(20, 23, 27)")
    assert light["ink"] != dark["ink"]


def test_a_real_evaluation_leaves_its_page_beside_its_results(evaluated):
    results, out = evaluated
    made = (out / "report.html").read_bytes().decode()
    assert made == page(results) == page(read_results(out / "results.json"))
    for heading in ("Reconstruction", "whole corpus", "Answering", "Noise", "Length", "What holds what", "Rate"):
        assert heading in made
    assert all(escape(name) in made for name in results.systems)
    first = next(sample for sample in results.samples if sample.system != "text")
    assert first.id in made and 100_000 < len(made) < 1_000_000


@pytest.mark.skipif(browser() is None, reason="no Chromium on the path")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_a_real_page_whole(evaluated, tmp_path, width):
    seen = looked_at((evaluated[1] / "report.html").read_text(), tmp_path, width=width)
    assert seen["wide"] <= seen["window"] == width and seen["lowest"] >= 9
