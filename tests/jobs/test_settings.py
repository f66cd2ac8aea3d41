"""--set KEY=VALUE, typed by the field's default."""

from __future__ import annotations

import pytest

from jobs.settings import EncodeSettings, apply_settings
from model.config import CodecConfig


def applied(*pairs):
    return apply_settings(pairs, EncodeSettings(), CodecConfig())


def test_without_pairs_everything_stays_as_it_is():
    assert applied() == (EncodeSettings(), CodecConfig())


def test_a_pair_goes_to_the_config_that_has_the_field():
    settings, config = applied("unit_chunks=8", "num_latents=5")
    assert (settings.unit_chunks, config.num_latents) == (8, 5)


@pytest.mark.parametrize(
    "pair, name, value",
    [
        ("commit_seconds=0.5", "commit_seconds", 0.5),
        ("threads=none", "threads", None),
        ("margin=1", "margin", 1.0),
        ("precision=bf16", "precision", "bf16"),
        ("load_in_4bit=TRUE", "load_in_4bit", True),
    ],
)
def test_values_are_typed_by_the_field(pair, name, value):
    found = {name: getattr(config, name) for config in applied(pair) for name in config.__dataclass_fields__}[name]
    assert found == value and type(found) is type(value)


def test_the_last_of_two_values_counts():
    assert applied("threads=2", "threads=3")[0].threads == 3


def test_a_value_may_hold_an_equals_sign():
    assert applied("marker_word=a=b")[1].marker_word == "a=b"


@pytest.mark.parametrize("pair", ["commit_seconds=none", "unit_chunks=1.5", "threads="])
def test_what_does_not_fit_the_type_is_refused(pair):
    with pytest.raises(ValueError, match=f"--set {pair}: wanted a value of type (int|float)"):
        applied(pair)
