"""Does the Ray answer that RAY_ADDRESS names? For one that is gone Ray itself waits without limit or word."""

from __future__ import annotations

import os
import re
import socket

from model.refusal import Refusal, Unavailable

ANSWER_SECONDS = 15  # for a head that is busy, or starts this moment
WANTED = "wanted HOST:PORT of the cluster's head, such as 10.0.0.1:6379, or nothing for a Ray on this machine"
_FORM = re.compile(r"(ray://)?(?P<host>\[[^\]\s/]+\]|[^\[\]\s/:]+):(?P<port>\d{1,5})/?")
ALIVE = {"": "/ray.rpc.NodeInfoGcsService/CheckAlive", "ray://": "/ray.rpc.RayletDriver/ClusterInfo"}


def require_answer(address: str, *, seconds: float | None = None) -> None:
    """Nothing for `local` and `auto`, which Ray looks for here. Raises Refusal for what is no address of a cluster,
    Unavailable where no Ray answers at one."""
    if address in ("local", "auto"):
        return
    seconds = ANSWER_SECONDS if seconds is None else seconds
    found = _FORM.fullmatch(address)
    if address.startswith(("http://", "https://")):
        raise Refusal(f"RAY_ADDRESS is {address!r}, a dashboard, which only `nextmem submit` goes to: {WANTED}")
    if found is None or not 0 < int(found["port"]) < 65536:
        raise Refusal(f"RAY_ADDRESS is {address!r}: {WANTED}")
    host, port = found["host"], int(found["port"])
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):  # only Ray has the keys to ask further
        answers = _listens(host, port, seconds)
    else:
        answers = _is_ray(f"{host}:{port}", ALIVE[found[1] or ""], seconds)
    if answers is False:
        raise Unavailable(_silent(address, _listens(host, port, 3)))


def _is_ray(target: str, method: str, seconds: float) -> bool:
    """Whether the port speaks gRPC and knows Ray's own method. A request for a token is an answer too."""
    import grpc

    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=seconds)
            channel.unary_unary(method)(b"", timeout=seconds / 2)
        except grpc.FutureTimeoutError:
            return False
        except grpc.RpcError as error:
            silent = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            return error.code() not in silent
    return True


def _listens(host: str, port: int, seconds: float) -> bool:
    try:
        with socket.create_connection((host.strip("[]"), port), timeout=seconds):
            return True
    except (OSError, UnicodeError):
        return False


def _silent(address: str, something: bool) -> str:
    found = "what answers there is no Ray" if something else "nothing answers there"
    return (
        f"no Ray answers at {address}, which RAY_ADDRESS names: {found}. Start the cluster, name another, or unset "
        "RAY_ADDRESS to run on this machine"
    )
