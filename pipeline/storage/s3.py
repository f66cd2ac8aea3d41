"""S3 by the standard AWS variables, told alike to both clients: pyarrow reads and writes files, delta-rs commits.

    AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL   where the store is, if it is not AWS
    AWS_REGION or AWS_DEFAULT_REGION          else us-east-1 at an endpoint of one's own, and the bucket's own at AWS
    AWS_MAX_ATTEMPTS                          how often one request is tried, 8 times if it does not say

Credentials are left to the clients, which look in the same places (AWS_ACCESS_KEY_ID and its companions, AWS_PROFILE
and its files, the machine's role): no key passes through here, so none can be printed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from pyarrow import fs

from model.refusal import Refusal
from pipeline.storage.s3_errors import explained

SCHEME = "s3://"
ATTEMPTS = 8  # with the clients' growing pauses, about a minute
CONNECT_SECONDS, REQUEST_SECONDS, RETRY_SECONDS = 5, 60, 180
ANY_REGION = "us-east-1"  # signatures want one; a store that is not AWS does not care which
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
               "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")  # fmt: skip


@dataclass(frozen=True, slots=True)
class S3Settings:
    """What both clients are told beside credentials."""

    endpoint: str | None  # http://host:port, or None for AWS
    region: str | None  # None: the bucket's own
    attempts: int

    @classmethod
    def from_environment(cls) -> S3Settings:
        """Raises ValueError for a variable that makes no sense."""
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
        parts = urlsplit(endpoint or "https://aws")
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:  # it is printed
            raise Refusal("AWS_ENDPOINT_URL is no plain URL: give one such as https://host or http://host:9000")
        attempts = os.environ.get("AWS_MAX_ATTEMPTS") or str(ATTEMPTS)
        if not attempts.isdecimal() or int(attempts) < 1:
            raise Refusal(f"AWS_MAX_ATTEMPTS is {attempts}: wanted a whole number of at least 1")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
        return cls(endpoint and endpoint.rstrip("/"), region, int(attempts))


def is_s3(uri: str) -> bool:
    return uri.startswith(SCHEME)


def filesystem(bucket: str) -> fs.S3FileSystem:
    """pyarrow's client for a bucket. The first call a process makes for one asks whether it is there.

    Raises ValueError for a bucket that is not, OSError where the store refuses or does not answer.
    """
    return _filesystem(bucket, S3Settings.from_environment(), hash(tuple(map(os.environ.get, CREDENTIALS))))


def delta_options(bucket: str) -> dict[str, str]:
    """delta-rs' names for the same settings. `conditional_put` is what makes a commit a compare-and-swap.

    It is delta-rs' own default today; said here, so that it does not hang on a default. At an endpoint of one's own
    delta-rs looks for keys in the variables and on the machine only, unless it is told to look into profiles too.
    """
    settings = S3Settings.from_environment()
    return {
        **({"endpoint": settings.endpoint} if settings.endpoint else {}),
        "region": _region(bucket, settings),
        "allow_http": str(bool(settings.endpoint and settings.endpoint.startswith("http://"))).lower(),
        "conditional_put": "etag",
        **({} if "AWS_ACCESS_KEY_ID" in os.environ else {"aws_force_credential_load": "true"}),
        "max_retries": str(settings.attempts - 1),
        "retry_timeout": f"{RETRY_SECONDS}s",
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "timeout": f"{REQUEST_SECONDS}s",
    }


@lru_cache(maxsize=64)
def _filesystem(bucket: str, settings: S3Settings, credentials: int) -> fs.S3FileSystem:
    """Kept by the credentials' hash: other ones want another client."""
    scheme, _, host = (settings.endpoint or "").partition("://")
    made = fs.S3FileSystem(
        region=_region(bucket, settings),
        **({"scheme": scheme, "endpoint_override": host} if host else {}),
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=settings.attempts),
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        allow_delayed_open=True,  # a small file is one put, in place of the three requests of an upload in parts
    )
    if made.get_file_info(bucket).type == fs.FileType.NotFound:
        where = settings.endpoint or f"AWS, region {_region(bucket, settings)}"
        raise Refusal(f"s3://{bucket}: there is no such bucket at {where}. Make it, or check its name.")
    return made


@lru_cache(maxsize=64)
def _region(bucket: str, settings: S3Settings) -> str:
    if settings.region or settings.endpoint:
        return settings.region or ANY_REGION
    try:
        return fs.resolve_s3_region(bucket)
    except OSError as error:
        why = (explained(error) or str(error)).removeprefix(f"s3://{bucket}: ").partition(". ")[0]
        raise Refusal(f"s3://{bucket}: its region is not known ({why}). Set AWS_REGION.") from None
