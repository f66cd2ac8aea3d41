"""What a few units say of the plan's guess: scripts that take many tokens a byte do not let a job start at half."""

from __future__ import annotations

from dataclasses import replace

import pytest
from works import Works, jsonl

from pipeline.encode import sample
from pipeline.encode.forecast import Forecast
from pipeline.plan.plan import plan_corpus

SCRIPTS = {"dense": "東京は日本の首都です。" * 20, "latin": "The quick brown fox jumps over the lazy dog. " * 15}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_job_starts_with_about_the_chunks_it_will_make(tmp_path, tiny_codec_folder, script):
    corpus = jsonl(tmp_path / "corpus.jsonl", {f"d{i}": SCRIPTS[script] + str(i) for i in range(40)})
    works = Works(tmp_path, tiny_codec_folder, corpus, unit_chunks=4)
    plan = plan_corpus([str(corpus)], works.options.columns, unit_chunks=4, folder=str(tmp_path / "plan"))
    work = plan.against()
    made = sum(works.read(unit).chunks.num_rows for unit in works.units)

    forecast = Forecast(work.counts.chunks, sample.found_a_guess(work, works.options))

    assert forecast.chunks == pytest.approx(made, rel=0.05) and work.counts.chunks < made / 2


def test_a_unit_that_costs_much_to_read_is_no_part_of_it(tmp_path, tiny_codec_folder, monkeypatch):
    works = Works(tmp_path, tiny_codec_folder, jsonl(tmp_path / "corpus.jsonl", SCRIPTS))
    (unit,) = works.units
    (span,) = unit.spans
    packed = replace(span, file=replace(span.file, compression=".gz"), offset=1 << 40)
    assert sample._is_cheap(unit)
    assert not sample._is_cheap(replace(unit, spans=(packed,)))
    assert not sample._is_cheap(replace(unit, chunks=1 << 20))
