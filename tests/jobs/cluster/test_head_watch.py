"""A head that goes away is named; one that comes back too; one that stays is never mentioned."""

from __future__ import annotations

import socket
import time

from jobs.cluster.head_watch import HeadWatch

EVERY = 0.05


def listening(port=0):
    return socket.create_server(("127.0.0.1", port))


def until(capsys, word, said=""):
    end = time.monotonic() + 10
    while word not in said:
        assert time.monotonic() < end, said
        time.sleep(EVERY)
        said += capsys.readouterr().err
    return said


def test_a_head_that_answers_is_not_mentioned(capsys):
    with listening() as head, HeadWatch(f"127.0.0.1:{head.getsockname()[1]}", every=EVERY):
        time.sleep(10 * EVERY)
    assert capsys.readouterr().err == ""


def test_a_head_that_goes_is_named_once_and_so_is_its_return(capsys):
    head = listening()
    address = f"127.0.0.1:{head.getsockname()[1]}"
    with HeadWatch(address, every=EVERY):
        head.close()
        said = until(capsys, "the same command goes on")
        assert f"the cluster's head at {address} has not answered for" in said
        time.sleep(10 * EVERY)
        assert capsys.readouterr().err == ""
        with listening(int(address.rpartition(":")[2])):
            assert f"the cluster's head at {address} answers again" in until(capsys, "again")
