"""The log of a submitted job, as it grows, until the job is over."""

from __future__ import annotations

import asyncio
import sys
import time

from jobs.cluster.job_server import JobServer, SubmittedJob
from jobs.output import emit

RETRIES, PAUSE = 30, 2.0  # connections lost in a row; seconds between them: a forwarded port or a head comes back


def follow(server: JobServer, job_id: str, *, as_json: bool = False) -> SubmittedJob:
    """Print the log to stdout, to the end of the job. Raises ConnectionError where the cluster stays away."""
    log, lost = _Log(server, job_id, as_json), 0
    while True:
        before = log.shown
        try:
            asyncio.run(log.show())
            job = server.job(job_id)
            if job.is_over:
                log.show_rest()
                return job
        except ConnectionError:
            lost = lost + 1 if log.shown == before else 1
            if lost > RETRIES:
                raise
        time.sleep(PAUSE)


class _Log:
    """Counts the characters shown: a connection that comes back gets the log from its beginning."""

    def __init__(self, server: JobServer, job_id: str, as_json: bool):
        self.server, self.job_id, self.as_json, self.shown = server, job_id, as_json, 0

    async def show(self) -> None:
        seen = 0
        async for text in self.server.tail(self.job_id):
            self._print(text[max(0, self.shown - seen) :])
            seen += len(text)
            self.shown = max(self.shown, seen)

    def show_rest(self) -> None:
        self._print(self.server.log(self.job_id)[self.shown :])

    def _print(self, text: str) -> None:
        if self.as_json and text:
            emit({"event": "log", "text": text})
        elif text:
            sys.stdout.write(text)
            sys.stdout.flush()
