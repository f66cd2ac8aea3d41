"""How many chunks there will be, as finished units correct the plan's guess."""

from __future__ import annotations

from pipeline.bank.commit import Receipt
from pipeline.encode.forecast import Forecast
from pipeline.encode.outcome import Failure, Outcome
from pipeline.plan.units import Unit


def forecast(*guesses, found_a_guess=1.0):
    """A forecast over handed-out units of so many guessed chunks: unit-0, unit-1, ..."""
    units = [Unit(f"unit-{n}", (), documents=2, chunks=guess, bytes=0, rejected=0) for n, guess in enumerate(guesses)]
    made = Forecast(sum(guesses), found_a_guess)
    assert list(made.watching(units)) == units
    return made


def done(name, chunks):
    return Outcome(Receipt(name, chunks=chunks))


def test_at_first_it_is_the_plan_s_guess():
    assert forecast(10, 30).chunks == 40


def test_units_to_come_are_scaled_by_what_finished_ones_held():
    made = forecast(10, 30)
    made.add([done("unit-0", 40)])
    assert made.chunks == 40 + 30 * 4


def test_in_the_end_it_is_what_was_found():
    made = forecast(10, 30)
    made.add([done("unit-0", 40), done("unit-1", 100)])
    assert made.chunks == 140


def test_nothing_is_expected_of_a_failed_unit():
    made = forecast(10, 30)
    made.add([Outcome(failure=Failure("unit-1", "I/O error"))])
    assert made.chunks == 10


def test_a_unit_with_nothing_in_it_does_not_end_the_forecast():
    made = forecast(10, 30)
    made.add([done("unit-0", 0)])
    assert made.chunks == 30


def test_until_a_unit_is_done_it_is_what_a_sample_says():
    made = forecast(10, 30, found_a_guess=2.5)
    assert made.chunks == 100
    made.add([done("unit-0", 20)])
    assert made.chunks == 20 + 30 * 2
