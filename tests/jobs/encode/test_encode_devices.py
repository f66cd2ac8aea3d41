"""GPUs or CPUs: what is there decides on this machine, a person decides on a cluster that shows no GPU yet."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from jobs.cluster.session import Cluster, Session
from jobs.encode.request import EncodeRequest, encode_options, wants_gpus
from jobs.settings import EncodeSettings
from model.config import CodecConfig, VerifyConfig
from pipeline.corpus.documents import ColumnRoles

LAPTOP, WORKSTATION = Cluster(0, 8, True), Cluster(2, 8, True)
EMPTY, WARM = Cluster(0, 1, False), Cluster(4, 32, False)


def wants(cluster, **asked):
    return wants_gpus(EncodeRequest(("c",), "b", ColumnRoles(), EncodeSettings(), CodecConfig(), **asked), cluster)


def test_without_a_word_what_is_there_decides():
    assert [wants(LAPTOP), wants(WORKSTATION), wants(WARM)] == [False, True, True]


def test_no_gpus_means_cpus_everywhere():
    assert not any(wants(cluster, gpus=False) for cluster in (LAPTOP, WORKSTATION, EMPTY, WARM))


def test_a_cluster_that_shows_no_gpu_is_not_taken_for_one_of_cpus():
    with pytest.raises(ValueError, match="--gpus --actors N asks for N and waits for them, --no-gpus encodes on CPUs"):
        wants(EMPTY, actors=4)


def test_gpus_to_come_are_counted_by_a_person():
    with pytest.raises(ValueError, match="say with --actors N how many to wait for"):
        wants(EMPTY, gpus=True)
    assert wants(EMPTY, gpus=True, actors=8) and wants(WARM, gpus=True)


def test_a_machine_without_gpus_waits_for_none():
    with pytest.raises(ValueError, match="this machine has no GPU"):
        wants(LAPTOP, gpus=True, actors=1)


def test_a_pool_is_of_a_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("jobs.cluster.session._is_running", lambda: False)
    with pytest.raises(ValueError, match="--pool encode is a label of a cluster's nodes, and RAY_ADDRESS names no"):
        Session("encode")


def on_cpus(cluster, free: int, monkeypatch, **settings) -> tuple[int, int]:
    """Actors and the threads of each, with so much memory free and 700 MB of weights."""
    monkeypatch.setattr("jobs.encode.request.find_weights", lambda name: SimpleNamespace(size=700_000_000))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free))
    request = EncodeRequest(
        ("c",), "b", ColumnRoles(), EncodeSettings(**settings), CodecConfig(), backbone="some/model"
    )
    options = encode_options(request, "b", "codec", ColumnRoles(), VerifyConfig.of("fp32"), cluster, gpus=False)
    return options.actors, options.threads


def test_on_a_cpu_each_core_gets_an_actor_as_far_as_memory_goes(monkeypatch):
    assert on_cpus(LAPTOP, 64_000_000_000, monkeypatch) == (8, 1)
    assert on_cpus(LAPTOP, 16_000_000_000, monkeypatch) == (4, 2)
    assert on_cpus(LAPTOP, 1_000_000_000, monkeypatch) == (1, 8)


def test_threads_and_a_cluster_set_the_number_of_actors_without_a_look_at_memory(monkeypatch):
    assert on_cpus(LAPTOP, 1_000_000_000, monkeypatch, threads=2) == (4, 2)
    assert on_cpus(WARM, 1_000_000_000, monkeypatch) == (8, 4)
