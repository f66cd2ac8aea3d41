"""The job server of a Ray cluster: submit, list, stop, read logs. What it refuses is one line that says what to do."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.cluster.token import NAMES, Token, find_token
from model.refusal import Missing, Refusal, Taken, Unavailable, Unreachable

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"  # Ray's own, and where `ray dashboard cluster.yaml` forwards to
ANSWER_SECONDS = (10, 20)  # to connect; to answer: a head that is busy starting nodes takes its time
AGENT_SECONDS, NO_AGENT = 120, "No available agent"  # a head that has just started answers before it can take jobs
COMMAND = "nextmem"  # the metadata field that holds the submitted command


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A submitted command on the cluster."""

    id: str
    status: str  # PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED
    command: str
    started: float | None = None  # seconds since 1970
    ended: float | None = None
    exit_code: int | None = None  # of the command, once it has ended
    message: str = ""  # Ray's, on the status

    @property
    def is_over(self) -> bool:
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


class JobServer:
    """Asks the server who it is when made. Raises ConnectionError, PermissionError or ValueError, each one line."""

    def __init__(self, address: str | None):
        self.address, variable = _dashboard(address)
        token = find_token()
        _greet(self.address, variable, token)
        self._client = _client(self.address, token)

    def submit(self, command: str, entrypoint: str, submission_id: str, environment: dict) -> None:
        """Raises FileExistsError where the id was used, by a submission made at the same moment."""
        end = time.monotonic() + AGENT_SECONDS
        while True:
            try:
                with self._plain(submission_id):
                    self._client.submit_job(
                        entrypoint=entrypoint,
                        submission_id=submission_id,
                        runtime_env=environment,
                        metadata={COMMAND: command},
                    )
                return
            except RuntimeError as error:
                if NO_AGENT not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(1)

    def jobs(self) -> list[SubmittedJob]:
        """All submitted jobs that the cluster remembers, oldest first."""
        with self._plain():
            found = [_job(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: job.started or 0)

    def job(self, job_id: str) -> SubmittedJob:
        with self._plain(job_id):
            return _job(self._client.get_job_info(job_id))

    def stop(self, job_id: str) -> None:
        with self._plain(job_id):
            self._client.stop_job(job_id)

    def log(self, job_id: str) -> str:
        with self._plain(job_id):
            return self._client.get_job_logs(job_id)

    async def tail(self, job_id: str) -> AsyncIterator[str]:
        """The log from its beginning, as it grows, until the job is over. ConnectionError where it breaks off."""
        from aiohttp import ClientError

        try:
            async for text in self._client.tail_job_logs(job_id):
                yield text
        except (ClientError, RuntimeError) as error:
            raise Unreachable(f"the log of {job_id} broke off: {error}") from None

    @contextmanager
    def _plain(self, job_id: str = "") -> Iterator[None]:
        """Ray's errors hold a status code, a body and often a traceback; say in a line what a person needs of them."""
        from requests.exceptions import RequestException

        try:
            yield
        except RequestException:
            raise Unreachable(f"the cluster at {self.address} does not answer any more") from None
        except RuntimeError as error:
            if "does not exist" in str(error):
                raise Missing(
                    f"the cluster at {self.address} knows no job {job_id}: `nextmem jobs` lists those it knows"
                ) from None
            if "already exists" in str(error):
                raise Taken(f"{job_id} has just been submitted by another: `nextmem jobs` lists it") from None
            raise Unavailable(f"the cluster at {self.address} refused: {_last_line(error)}") from None


def _dashboard(address: str | None) -> tuple[str, str]:
    """The address that was given or set, without a trailing slash, and the variable that names it, else nothing.

    Raises Refusal for one of another kind.
    """
    set_by = ((os.environ.get(name), name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"))
    choices = ((address, ""), *set_by, (DEFAULT_ADDRESS, ""))
    found, variable = next((value, name) for value, name in choices if value)
    if not found.startswith(("http://", "https://")):
        raise Refusal(
            f"the address is {found!r}{_named(variable)}; wanted the dashboard's, such as --address http://HOST:8265 "
            "(RAY_ADDRESS may name it too)"
        )
    return found.rstrip("/"), variable


def _greet(address: str, variable: str, token: Token | None) -> None:
    """Ray's client would wait without limit for a host that is not there, and say little about a token."""
    import requests

    try:
        reply = requests.get(f"{address}/api/version", headers=token.header() if token else {}, timeout=ANSWER_SECONDS)
    except (requests.exceptions.RequestException, ValueError) as error:  # ValueError: no host is written so
        raise Unreachable(
            f"no Ray answers at {address}{_named(variable)} ({type(error).__name__}): start a cluster, forward its "
            "port, or give --address http://HOST:8265"
        ) from None
    if reply.status_code in (401, 403):
        raise Refusal(_token_refused(address, token))
    if reply.status_code != 200 or "ray_version" not in reply.text:
        found = f"what answers at {address}{_named(variable)} is no Ray dashboard"
        raise Refusal(f"{found} (HTTP {reply.status_code}): check --address")


def _named(variable: str) -> str:
    return f", which {variable} names" if variable else ""


def _token_refused(address: str, token: Token | None) -> str:
    if token is None:
        return f"the cluster at {address} asks for a token and none was found: set {NAMES}"
    return f"the cluster at {address} refuses the token of {token.source}: put its own into {NAMES}"


def _client(address: str, token: Token | None) -> JobSubmissionClient:
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray lets variables win over the argument
    from ray.job_submission import JobSubmissionClient

    for handler in logging.getLogger("ray").handlers:  # importing ray has it tell of each upload, on stderr
        handler.setLevel(logging.ERROR)
    return JobSubmissionClient(address, headers=token.header() if token else None)


def _job(details: JobDetails) -> SubmittedJob:
    return SubmittedJob(
        id=details.submission_id or "",
        status=details.status.value,
        command=(details.metadata or {}).get(COMMAND) or details.entrypoint,
        started=_seconds(details.start_time),
        ended=_seconds(details.end_time),
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1000 if milliseconds else None


def _last_line(error: Exception) -> str:
    lines = str(error).replace("\\n", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip(" .'\"")), type(error).__name__)
