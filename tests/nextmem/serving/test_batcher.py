"""Requests that wait go to the codec together, no more than may wait, each with its own answer or error."""

from __future__ import annotations

import asyncio
import threading

import pytest

from nextmem.serving.batcher import Batcher, Full


class Gate:
    """Work that waits until it is let through; it doubles numbers, and refuses 3."""

    def __init__(self):
        self.open, self.at_work, self.batches = threading.Event(), threading.Event(), []

    def __call__(self, asked):
        self.at_work.set()
        self.open.wait(30)
        self.batches.append(list(asked))
        return [ValueError("three") if each == 3 else 2 * each for each in asked]


def run(talk, **options):
    """What `talk` finds, with a batcher around a gate; and the batches that were worked on."""
    gate = Gate()

    async def whole():
        batcher = Batcher(gate, **options)
        try:
            return await talk(batcher, gate)
        finally:
            gate.open.set()
            await batcher.close()

    return asyncio.run(whole()), gate.batches


async def begun(batcher, gate, asked):
    """The task of a request that is at work."""
    task = asyncio.create_task(batcher.ask(asked))
    while not gate.at_work.is_set():
        await asyncio.sleep(0.001)
    return [task]


def test_what_comes_while_the_codec_works_goes_together():
    async def talk(batcher, gate):
        first = await begun(batcher, gate, 1)
        rest = [asyncio.create_task(batcher.ask(each)) for each in (2, 4, 5, 6, 7)]
        await asyncio.sleep(0)
        gate.open.set()
        return await asyncio.gather(*first, *rest)

    answers, batches = run(talk, most=4)
    assert answers == [2, 4, 8, 10, 12, 14]
    assert batches == [[1], [2, 4, 5, 6], [7]]


def test_an_error_is_its_request_s_alone():
    async def talk(batcher, gate):
        gate.open.set()
        return await asyncio.gather(*(batcher.ask(each) for each in (1, 3, 5)), return_exceptions=True)

    (one, three, five), _ = run(talk)
    assert (one, five) == (2, 10) and isinstance(three, ValueError)


def test_beyond_what_may_wait_a_request_is_turned_away_at_once():
    async def talk(batcher, gate):
        tasks = await begun(batcher, gate, 1)
        tasks += [asyncio.create_task(batcher.ask(each)) for each in (2, 4)]
        await asyncio.sleep(0)
        with pytest.raises(Full, match="2 requests wait already"):
            await batcher.ask(5)
        gate.open.set()
        return await asyncio.gather(*tasks), await batcher.ask(6)

    (answers, later), batches = run(talk, waiting=2)
    assert (answers, later) == ([2, 4, 8], 12) and sum(map(len, batches)) == 4


def test_who_has_gone_is_left_out():
    async def talk(batcher, gate):
        first = await begun(batcher, gate, 1)
        gone, stays = (asyncio.create_task(batcher.ask(each)) for each in (2, 4))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        gate.open.set()
        return await asyncio.gather(*first, stays)

    answers, batches = run(talk)
    assert answers == [2, 8] and batches == [[1], [4]]


def test_a_fault_of_the_work_is_told_to_each_and_the_next_batch_goes_on():
    calls = []

    def work(asked):
        calls.append(asked)
        if len(calls) == 1:
            raise OSError("disk")
        return asked

    async def whole():
        batcher = Batcher(work)
        found = await asyncio.gather(batcher.ask(1), batcher.ask(2), return_exceptions=True)
        later = await batcher.ask(3)
        await batcher.close()
        return found, later

    found, later = asyncio.run(whole())
    assert all(isinstance(each, OSError) for each in found) and later == 3


def test_closing_answers_what_waits():
    async def talk(batcher, gate):
        tasks = await begun(batcher, gate, 1)
        tasks.append(asyncio.create_task(batcher.ask(2)))
        await asyncio.sleep(0)
        gate.open.set()
        await batcher.close()
        return [task.result() for task in tasks]

    assert run(talk)[0] == [2, 4]
