"""Several Ray actors make what one process makes, and what goes wrong there is told as it is here."""

from __future__ import annotations

import numpy as np
import pytest

import nextmem
from jobs.cluster.session import this_machine
from jobs.evaluate.makers import Actors, Call, Maker
from jobs.evaluate.system import Opening

TINY = Opening(backbone="tiny-llama", precision="fp32", refine=2)


def test_a_maker_finds_a_row_by_the_name_that_was_asked_for_wherever_its_folder_lies(tiny_codec_folder):
    maker = Maker({"here": str(tiny_codec_folder), "text": "text"}, TINY, "tiny-llama", threads=1)
    dense = maker.make(0, Call("here dense", "encode", (["The harbour froze in 1911."], None)))
    stored = maker.make(1, Call("here", "encode", (["The harbour froze in 1911."], dense.found)))
    assert (stored.place, len(stored.found)) == (1, 1) and stored.seconds > 0
    assert np.allclose(stored.found[0].parts["latents"], dense.found[0].parts["latents"], atol=0.5)


@pytest.mark.ray
def test_two_actors_find_what_one_process_finds(ray_session, evaluated, harbour_folder, tiny_codec_folder, tmp_path):
    results, _ = evaluated
    asked = {"limit": 6, "backbone": "tiny-llama", "precision": "fp32", "tokens": 192, "draws": 500}
    tasks = ("reconstruct", "retrieve", "answer")
    found = nextmem.evaluate([tiny_codec_folder, "text"], data=harbour_folder, tasks=tasks, actors=2, **asked)
    assert found.faults == [] and found.made["actors"] == 2
    alone = {_place(f): f.values for f in results.figures}
    for each in found.figures:
        assert each.values == pytest.approx(alone[_place(each)], abs=1e-3), _place(each)


@pytest.mark.ray
def test_what_a_call_raises_in_an_actor_is_raised_here(ray_session, tiny_codec_folder):
    actors = Actors(1, this_machine(), ["text"], TINY, "tiny-llama")
    made = list(actors.run([Call("text", "encode", (["A pier."],)), Call("text", "encode", (["Two.", "Three."],))]))
    assert sorted((each.place, len(each.found)) for each in made) == [(0, 1), (1, 2)]
    with pytest.raises(AttributeError, match="rank"):
        list(actors.run([Call("text", "rank", ([], []))]))


def _place(figure) -> tuple:
    return figure.task, figure.system, figure.metric, *figure.at.items()
