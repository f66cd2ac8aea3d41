"""What the S3 clients say when a request fails, as one line: what was asked, what came, what to do.

pyarrow's and delta-rs' own messages hold the server's whole answer, terminal colours and, from AWS, the caller's key
id; the line here is made anew from what is recognised in them.
"""

from __future__ import annotations

import re

_OURS = re.compile(r"AWS Error|Generic S3 error|Error performing [A-Z]+ http")
_ARROW_KEY = re.compile(r"key '([^']*)' in bucket '([^']*)'")
_ARROW_BUCKET = re.compile(r"bucket '([^']*)'")
_DELTA = re.compile(r"Error performing [A-Z]+ (https?://[^/\s]+)/([^?\s]+)")
_NETWORK = re.compile(r"Details: ([^\n()]*)|↳ ([^\n<(]*)")  # curl's words; the innermost of delta-rs' causes
_COLOUR = re.compile(r"\x1b\[\d*m")

DENIED = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or this machine's role"
DOWN = "was tried as often as AWS_MAX_ATTEMPTS allows. What is committed stays: run the same command again to go on"

_REASONS = (  # the first that is found; the more telling ones stand first
    (r"NO_SUCH_BUCKET|NoSuchBucket", "there is no such bucket", "Make it, or check its name and AWS_ENDPOINT_URL"),
    (r"SIGNATURE_DOES_NOT_MATCH|SignatureDoesNotMatch", "the secret key is not the one of the key id", DENIED),
    (r"INVALID_ACCESS_KEY_ID|InvalidAccessKeyId|INVALID_CLIENT_TOKEN", "the key id is not known there", DENIED),
    (r"EXPIRED_TOKEN|ExpiredToken|TokenRefreshRequired", "the session token has expired", "Get a new one"),
    (r"169\.254\.169\.254|metadata service|CredentialsNotLoaded", "no credentials were found", DENIED),
    (r"ACCESS_DENIED|AccessDenied|403 Forbidden|necessary privileges|HTTP status 403", "access is denied", DENIED),
    (r"PERMANENT_REDIRECT|PermanentRedirect|AuthorizationHeaderMalformed|HTTP status 301", "the bucket is in another "
     "region", "Set AWS_REGION to it"),
    (r"SLOW_DOWN|SlowDown|HTTP status 503|503 Service", "the store answers 503 SlowDown", f"It {DOWN}"),
    (r"HTTP status 5\d\d|INTERNAL_FAILURE|50[024] [A-Z]", "the store answers with an error of its own", f"It {DOWN}"),
    (r"NETWORK_CONNECTION|client error|HTTP error|REQUEST_TIMEOUT", "the store does not answer", f"It {DOWN}"),
)  # fmt: skip


def explained(error: BaseException | str) -> str | None:
    """One line for an S3 client's error; None for any other error."""
    text = _COLOUR.sub("", str(error))
    if not _OURS.search(text):
        return None
    for pattern, reason, advice in _REASONS:
        if re.search(pattern, text):
            return f"{_where(text)}: {reason}{_detail(text, reason)}. {advice}."
    return f"{_where(text)}: {' '.join(text.split('<?xml')[0].split())}"


def _where(text: str) -> str:
    """The object or bucket that was asked for, the last one named: what is around it is Ray's."""
    if found := _ARROW_KEY.findall(text):
        key, bucket = found[-1]
        return f"s3://{bucket}/{key}"
    if found := _DELTA.findall(text):
        server, path = found[-1]
        return f"s3://{path}" if "169.254" not in server else "S3"
    return f"s3://{found[-1]}" if (found := _ARROW_BUCKET.findall(text)) else "S3"


def _detail(text: str, reason: str) -> str:
    """What the network said."""
    if reason != "the store does not answer":
        return ""
    said = [(curl or cause).strip() for curl, cause in _NETWORK.findall(text)]
    return f" ({said[-1]})" if said and said[-1] else ""
