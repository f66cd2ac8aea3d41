"""The plan of a run: order, ends, rates; what a config refuses."""

from __future__ import annotations

import dataclasses

import pytest

from model.training.curriculum import Curriculum, Place, TrainConfig


def walk(curriculum: Curriculum, losses=lambda place: 1.0) -> list[tuple[int, int, int]]:
    """(stage, sub-stage, steps) as a run would go through them."""
    place, seen = curriculum.start(), []
    while not place.is_done:
        place = curriculum.after_step(place)
        if curriculum.looks_due(place):
            place = curriculum.after_look(place, losses(place))
        if curriculum.ended(place):
            seen.append((place.stage, place.substage, place.substage_step))
            place = curriculum.next(place)
    return seen


def test_the_defaults_are_the_papers_but_for_the_decoder_that_trains_on():
    config = TrainConfig()
    assert (config.stage1_steps, config.curriculum, config.trains) == (3092, "progressive", "both")


def test_sub_stages_follow_one_another_each_to_its_cap():
    config = TrainConfig(stage1_steps=7, substage_steps=3, final_steps=5, patience=0)
    assert walk(Curriculum(config, 3)) == [(1, 0, 7), (2, 1, 3), (2, 2, 3), (2, 3, 5)]


def test_all_at_once_takes_the_same_steps_in_one_sub_stage():
    config = TrainConfig(stage1_steps=7, substage_steps=3, final_steps=5, patience=0, curriculum="all_at_once")
    assert walk(Curriculum(config, 3)) == [(1, 0, 7), (2, 3, 11)]


@pytest.mark.parametrize(("stages", "seen"), [("1", [(1, 0, 7)]), ("2", [(2, 2, 3), (2, 3, 3)])])
def test_one_stage_alone_and_a_later_start(stages, seen):
    config = TrainConfig(stages=stages, stage1_steps=7, substage_steps=3, patience=0, first_substage=2)
    assert walk(Curriculum(config, 3)) == seen


def test_a_sub_stage_ends_when_its_held_out_loss_is_stable():
    config = TrainConfig(stages="2", substage_steps=100, eval_every=10, patience=2, plateau=0.01)
    falling = {10: 2.0, 20: 1.0, 30: 0.995, 40: 0.992}  # the last two fall by less than a hundredth of 1.0
    place = Curriculum(config, 1).start()
    assert walk(Curriculum(config, 1), lambda place: falling[place.substage_step]) == [(2, 1, 40)]
    assert place.best is None


def test_a_stable_last_sub_stage_still_gets_its_decay():
    config = TrainConfig(stages="2", substage_steps=100, eval_every=10, patience=1, decay_steps=5, warmup_steps=0)
    curriculum = Curriculum(config, 1)
    assert walk(curriculum) == [(2, 1, 25)]  # best at 10, stable at 20, five more
    end = Place(2, 1, 24, 24, 24, cap=25)
    assert curriculum.learning_rate(end) == pytest.approx(config.learning_rate / 5)


def test_a_resumed_sub_stage_ends_where_the_settings_now_say():
    before = Curriculum(TrainConfig(stage1_steps=100, substage_steps=10, patience=2), 2)
    after = Curriculum(TrainConfig(stage1_steps=30, substage_steps=4, final_steps=50, patience=2), 2)
    caps = {(1, 0, 20): 30, (1, 0, 40): 41, (2, 1, 3): 4, (2, 1, 8): 9, (2, 2, 8): 50}
    for (stage, substage, step), cap in caps.items():
        place = Place(stage, substage, step, step, step, before.start().cap)
        assert after.resumed(place).cap == cap
    stable = Place(2, 2, 8, 8, 8, cap=9, best=1.0, stale=2)
    assert after.resumed(stable) == stable
    done = Place(3, 2, 8, 0, 0, 0)
    assert after.resumed(done) == done


def in_decay(curriculum: Curriculum, losses: dict[int, float], until: int) -> Place:
    """Where a run of stage 2 alone stands after so many steps, looked at as it would be."""
    place = curriculum.start()
    while place.substage_step < until:
        place = curriculum.after_step(place)
        if curriculum.looks_due(place):
            place = curriculum.after_look(place, losses[place.substage_step])
    return place


PLATEAU = {"stages": "2", "substage_steps": 5000, "eval_every": 100, "patience": 2, "warmup_steps": 0}
STABLE_AT_300 = {100: 1.0, 200: 1.0, 300: 1.0, 400: 0.5}  # and falling again in its decay


def test_a_run_killed_in_its_decay_goes_on_in_it():
    curriculum = Curriculum(TrainConfig(**PLATEAU, decay_steps=200), 1)
    place = in_decay(curriculum, STABLE_AT_300, until=400)
    assert (place.cap, place.stale) == (500, 0)  # a loss that falls in the decay is no new beginning
    resumed = curriculum.resumed(Place(**dataclasses.asdict(place)))
    assert resumed == place
    assert curriculum.learning_rate(resumed) == pytest.approx(curriculum.config.learning_rate / 2)
    assert "in its decay" in resumed.name()


def test_settings_that_leave_the_cap_alone_leave_a_decay_alone():
    """A shorter decay, asked for in the midst of a longer one, would send the rate up again."""
    place = in_decay(Curriculum(TrainConfig(**PLATEAU, decay_steps=200), 1), STABLE_AT_300, until=400)
    for changed in ({"decay_steps": 20}, {"decay_steps": 0}, {"decay_steps": 200, "patience": 0}):
        after = Curriculum(TrainConfig(**(PLATEAU | changed)), 1)
        resumed = after.resumed(place)
        assert resumed == place
        assert after.learning_rate(resumed) == pytest.approx(after.config.learning_rate / 2)


@pytest.mark.parametrize("losses", [STABLE_AT_300, {step: 1e6 / step for step in range(100, 5000, 100)}])
def test_another_cap_opens_an_end_that_had_begun(losses):
    """By a plateau or by the cap: who asks for more steps gets them, at the rate of the settings."""
    until = 400 if losses is STABLE_AT_300 else 4900
    place = in_decay(Curriculum(TrainConfig(**PLATEAU, decay_steps=200), 1), losses, until)
    after = Curriculum(TrainConfig(**(PLATEAU | {"substage_steps": 9000}), decay_steps=200), 1)
    resumed = after.resumed(place)
    assert (resumed.cap, resumed.stale, resumed.falls_from) == (9000, 0, None)
    assert after.learning_rate(resumed) == after.config.learning_rate
    assert after.resumed(resumed) == resumed


def test_a_decay_by_the_cap_falls_to_a_tenth():
    curriculum = Curriculum(TrainConfig(stages="2", substage_steps=10, decay_steps=5, patience=0, warmup_steps=0), 1)
    place, rates = curriculum.start(), []
    while not curriculum.ended(place):
        rates.append(curriculum.learning_rate(place) / curriculum.config.learning_rate)
        place = curriculum.after_step(place)
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_the_rate_warms_up_at_each_stage():
    curriculum = Curriculum(TrainConfig(warmup_steps=9, learning_rate=1.0), 3)
    assert curriculum.learning_rate(curriculum.start()) == pytest.approx(0.1)
    assert curriculum.learning_rate(Place(2, 2, 99, 50, 0, 3)) == 1.0


def test_steps_left_counts_caps():
    config = TrainConfig(stage1_steps=7, substage_steps=3)
    assert Curriculum(config, 3).steps_left(Curriculum(config, 3).start()) == 7 + 9


@pytest.mark.parametrize(
    ("field", "value"),
    [("stages", "3"), ("curriculum", "none"), ("trains", "decoder"), ("batch_size", 0), ("learning_rate", 0.0),
     ("precision", "fp16"), ("final_steps", 0), ("text_noise", 1.0), ("text_noise", -0.1)],
)  # fmt: skip
def test_nonsense_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value!r}"):
        TrainConfig(**{field: value})


def test_a_first_sub_stage_past_the_last_is_refused():
    with pytest.raises(ValueError, match="first_substage is 4"):
        Curriculum(TrainConfig(first_substage=4), 3)
