"""Who set a signal's handler before a library did has it after."""

from __future__ import annotations

import signal

import pytest

from jobs.stopping import SIGNALS, Heed, Stopped, keeping_handlers


def library(number, frame):
    raise SystemExit(number)


@pytest.fixture(params=[signal.SIG_IGN, lambda number, frame: None], ids=["ignored", "own"])
def handler(request):
    """A caller's own, for every signal."""
    before = {number: signal.signal(number, request.param) for number in SIGNALS}
    yield request.param
    for number, was in before.items():
        signal.signal(number, was)


def test_a_callers_handlers_stand_again_after_a_library_set_its_own(handler):
    with pytest.raises(RuntimeError), keeping_handlers():
        for number in SIGNALS:
            signal.signal(number, library)
        raise RuntimeError
    assert [signal.getsignal(number) for number in SIGNALS] == [handler] * len(SIGNALS)


def test_a_commands_own_stand_again_too_and_a_callers_when_it_ends(handler):
    command = Heed()
    command.begin()
    with keeping_handlers():
        signal.signal(signal.SIGTERM, library)
    if handler is not signal.SIG_IGN:
        with pytest.raises(Stopped, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
    command.end()
    assert signal.getsignal(signal.SIGTERM) == handler
