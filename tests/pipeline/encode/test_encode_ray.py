"""The encode stage on Ray: which process does what, and what its death costs."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray.exceptions import RayActorError

from pipeline.bank.bank import Bank
from pipeline.bank.commit import commit
from pipeline.bank.problems import first_problems
from pipeline.bank.rejected import rejected
from pipeline.encode.encode import Actors, Stop, StoppedError, UnitEncoder, UnitReader, WorkerError, encode
from pipeline.encode.feed import RemoteFeed
from pipeline.encode.ledger import RemoteLedger

pytestmark = pytest.mark.ray

TEXTS = {f"doc-{n}": f"Document number {n}. " * 8 for n in range(8)}


def dying_encoder(poison: str):
    """A UnitEncoder whose process ends, as in a segmentation fault, whenever it encodes the document `poison`.

    Made here and not at module level, so that Ray sends it to the actors by value: this file is not there to import.
    """

    class DyingEncoder(UnitEncoder):
        def __init__(self, options, ledger):
            super().__init__(options, ledger)
            memoriser = self.work.memoriser
            memorise = memoriser.memorise

            def memorise_or_die(chunks, unit_id):
                if poison in chunks["doc_id"].to_pylist():
                    os._exit(1)
                return memorise(chunks, unit_id)

            memoriser.memorise = memorise_or_die

    return DyingEncoder


def encoded(job, actors_made_of: Actors | None = None, stop: Stop | None = None, window: int | None = None, **options):
    """The outcomes, committed; and the bank as a reader then finds it."""
    settings = replace(job.options, **options)
    outcomes = list(encode(iter(job.units), settings, RemoteLedger(), actors=actors_made_of, stop=stop, window=window))
    commit(job.bank, [outcome.receipt for outcome in outcomes])
    return outcomes, Bank.open(job.bank.folder.uri)


def test_each_actor_has_a_gpu_of_its_own(works, ray_session):
    job = works(TEXTS, unit_chunks=1)
    outcomes, bank = encoded(job, gpus=True, actors=2)
    assert {outcome.worker for outcome in outcomes} == {"gpu 0", "gpu 1"}
    assert len(outcomes) == len(job.units) == 8
    assert dict(bank.documents()).keys() == TEXTS.keys() and first_problems(bank) == []


def test_a_job_leaves_no_actor_behind_in_a_ray_that_goes_on(works, ray_session, monkeypatch):
    """Ray Data keeps handles on what it was given, so that it would not end by itself."""
    made, make = [], RemoteFeed.__init__
    monkeypatch.setattr(RemoteFeed, "__init__", lambda feed: (make(feed), made.append(feed))[0])
    encoded(works(TEXTS, unit_chunks=1))
    (feed,) = made
    with pytest.raises(RayActorError):
        ray.get(feed._actor.take.remote(0), timeout=60)


def patient_reader(seconds: float):
    """A UnitReader that reads a second unit once the first is encoded."""

    class PatientReader(UnitReader):
        read = False

        def __call__(self, row):
            end = time.monotonic() + seconds
            while self.read and not list(Path(self.work.options.bank).rglob("*.parquet")):
                if time.monotonic() > end:
                    raise TimeoutError("no encoder came beside the reader")
                time.sleep(0.1)
            self.read = True
            return super().__call__(row)

    return PatientReader


def test_encoders_that_hold_every_cpu_have_a_reader_beside_them(works, ray_session):
    """Whichever of the two Ray places first: the other must find room."""
    job = works(TEXTS, unit_chunks=1)
    threads = int(ray.cluster_resources()["CPU"])
    beside = ThreadPoolExecutor()
    try:
        _outcomes, bank = beside.submit(
            encoded, job, Actors(reader=patient_reader(60)), actors=1, threads=threads
        ).result(timeout=120)
    finally:
        beside.shutdown(wait=False)  # what waits for ever ends with Ray
    assert dict(bank.documents()).keys() == TEXTS.keys()


def test_a_dead_actor_is_survived_and_the_poison_document_rejected_alone(works, ray_session):
    job = works(dict(list(TEXTS.items())[:4]), unit_chunks=2)
    assert [unit.documents for unit in job.units] == [2, 2]
    outcomes, bank = encoded(job, Actors(encoder=dying_encoder("doc-1")), actors=1)
    assert sum(outcome.receipt.documents for outcome in outcomes) == 3
    assert dict(bank.documents()).keys() == {"doc-0", "doc-2", "doc-3"} and first_problems(bank) == []
    assert [(r.doc_id, r.reason) for r in rejected(bank)] == [
        ("doc-1", "encoding it ended its worker twice: it is left out")
    ]


def counted_encoder(folder: Path):
    """A UnitEncoder whose every process leaves a file in `folder`, and that raises for the text of doc-1."""

    class CountedEncoder(UnitEncoder):
        def __init__(self, options, ledger):
            super().__init__(options, ledger)
            (folder / f"{time.time_ns()}-{os.getpid()}").touch()
            codec = self.work.memoriser.codec
            memorise, bad = codec.memorise, codec.tokenizer.encode("Document number 1.")

            def memorise_or_raise(chunks, *, verify):
                if any(list(chunk) == bad for chunk in chunks):
                    raise RuntimeError("the kernel does not like it")
                return memorise(chunks, verify=verify)

            codec.memorise = memorise_or_raise

    return CountedEncoder


def test_encoders_load_once_however_many_windows_a_job_has(works, ray_session, tmp_path):
    job, loads = works(TEXTS, unit_chunks=1), tmp_path / "loads"
    loads.mkdir()
    outcomes, bank = encoded(job, Actors(encoder=counted_encoder(loads)), window=2, gpus=True, actors=2)
    assert len(outcomes) == len(job.units) == 8  # four windows
    workers = {outcome.worker for outcome in outcomes}  # one, where it is done before the other has loaded
    assert len(workers) <= len(list(loads.iterdir())) <= 2
    assert dict(bank.documents()).keys() == TEXTS.keys() and first_problems(bank) == []


def test_a_failed_unit_is_tried_again_by_another_process_which_proves_whose_fault_it_was(works, ray_session, tmp_path):
    texts = {f"doc-{n}": f"Document number {n}." for n in range(4)}
    job, loads = works(texts, unit_chunks=2), tmp_path / "loads"
    loads.mkdir()
    outcomes, bank = encoded(job, Actors(encoder=counted_encoder(loads)), actors=1)
    assert len(outcomes) == len(job.units) == 2 and len(list(loads.iterdir())) >= 2  # processes
    assert dict(bank.documents()).keys() == {"doc-0", "doc-2", "doc-3"} and first_problems(bank) == []
    assert [(r.doc_id, r.reason) for r in rejected(bank)] == [
        ("doc-1", "encoding it failed: RuntimeError: the kernel does not like it")
    ]


def test_a_job_whose_encoders_are_broken_says_so_and_a_mended_one_encodes_everything(works, ray_session):
    class BrokenEncoder(UnitEncoder):
        def __init__(self, options, ledger):
            super().__init__(options, ledger)

            def broken(chunks, *, verify):
                raise RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED")

            self.work.memoriser.codec.memorise = broken

    job = works(TEXTS, unit_chunks=4)
    outcomes = list(encode(iter(job.units), replace(job.options, actors=1), RemoteLedger(),
                           actors=Actors(encoder=BrokenEncoder)))  # fmt: skip
    assert len(outcomes) == len(job.units)
    assert all("CUBLAS_STATUS_NOT_SUPPORTED" in outcome.failure.reason for outcome in outcomes)
    _, bank = encoded(job, actors=1)
    assert dict(bank.documents()).keys() == TEXTS.keys() and list(rejected(bank)) == []


def test_what_a_worker_has_no_answer_to_ends_the_job_with_one_line(works, ray_session):
    class FailingEncoder(UnitEncoder):
        def __call__(self, row):
            raise KeyError("out of luck")

    with pytest.raises(WorkerError, match=r"^a worker of this job failed: KeyError: 'out of luck'$"):
        encoded(works(TEXTS, unit_chunks=4), Actors(encoder=FailingEncoder), actors=1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # how Ray Data's loop is ended
def test_it_can_be_ended_from_another_thread_while_nothing_comes(works, ray_session, tmp_path, capfd):
    """As Ctrl-C does it: whoever waits for an outcome is told, and another job of the same process goes on."""
    seen = {name: tmp_path / name for name in ("waits", "goes on", "ended")}

    class WaitingEncoder(UnitEncoder):
        def __call__(self, row):
            seen["waits"].touch()
            time.sleep(40)

    class PatientEncoder(UnitEncoder):
        def __call__(self, row):
            seen["goes on"].touch()
            while not seen["ended"].exists():
                time.sleep(0.1)
            return super().__call__(row)

    job, stop, beside = works(TEXTS, unit_chunks=4), Stop(), ThreadPoolExecutor()
    try:
        waits = beside.submit(encoded, job, Actors(encoder=WaitingEncoder), actors=1, stop=stop)
        goes_on = beside.submit(encoded, job, Actors(encoder=PatientEncoder), actors=1)
        while not (seen["waits"].exists() and seen["goes on"].exists()):
            assert not (waits.done() or goes_on.done())
            time.sleep(0.1)
        stop.ask()
        with pytest.raises(StoppedError):
            waits.result(timeout=20)
        seen["ended"].touch()
        assert len(goes_on.result(timeout=60)[0]) == len(job.units)
    finally:
        seen["ended"].touch()
        beside.shutdown(wait=False)
    assert "Traceback" not in capfd.readouterr().err
