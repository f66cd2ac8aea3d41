"""All it takes to repeat an evaluation: command, versions, processor, date."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jobs.evaluate.request import EvaluateRequest

PACKAGES = (
    *("torch", "transformers", "peft", "bitsandbytes", "numpy", "tokenizers"),
    *("rouge-score", "sacrebleu", "rapidfuzz", "ir-measures", "bm25s", "sentence-transformers"),
)


def made_of(request: EvaluateRequest, seconds: float) -> dict[str, object]:
    """The `made` of results.json."""
    import torch

    before, after = (request.prompt.template.partition("{context}")[i] for i in (0, 2))
    return {
        "command": request.command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "nextmem": _version("nextmem"),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "actors": request.actors,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "data": ", ".join(request.data),
        "tasks": list(request.tasks),
        "limit": request.limit,
        "tokens": request.tokens,
        "min_tokens": request.min_tokens,
        "seed": request.seed,
        "draws": request.draws,
        "reader": request.backbone,
        "prompt": {"before": before, "after": after},
        "judge": {"model": request.judge[1]} if request.judge else None,
    }


def processor() -> str:
    """As Linux names it, and what it multiplies in hardware."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    features = set(told.get("flags", told.get("Features", "")).split())
    fast = [name for name in ("avx512_bf16", "amx_bf16", "bf16") if name in features]
    return ", ".join([told.get("model name", platform.machine()), *fast])


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
