"""What to run first on a new GPU: does it encode, verify, recall, refine and train rightly, and how fast?

About ten minutes:

    python -m benchmarks.gpu_check

Needs torch, transformers, peft, pyarrow and safetensors; no ray, bitsandbytes, deltalake or gguf. A part that fails is
printed and the next one goes on. What is done is kept in --out, so the same command does what is missing. Exit code 0:
every part that was asked for is done, now or before, or cannot be done on this machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path

import torch
import transformers

from benchmarks.gpu_check.parts import PARTS
from benchmarks.gpu_check.plain_nf4 import use_where_needed
from benchmarks.gpu_check.subject import LeftOutError, Subject, WrongError
from benchmarks.harness import machine

DONE, FAILED, LEFT_OUT, NOT_BEGUN = "done", "FAILED", "left out", "not begun"


def main() -> None:
    arguments = _arguments()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(f"no GPU that torch {torch.__version__} can use: try --device cpu --tiny to see the check run")
        sys.exit(1)
    head = {
        "processor": machine()["processor"], "torch": torch.__version__, "transformers": transformers.__version__,
        "nf4": use_where_needed(), "device": arguments.device, "tiny": arguments.tiny,
    }  # fmt: skip
    print(", ".join(f"{key} {value}" for key, value in head.items()), flush=True)
    held = {} if arguments.again else _held(arguments.out, head)
    results = _run(arguments, head, held)
    _print_table(results)
    sys.exit(0 if all(result["status"] in (DONE, LEFT_OUT) for result in results.values()) else 1)


def _run(arguments: argparse.Namespace, head: dict, held: dict) -> dict[str, dict]:
    """The parts that were asked for, in their order. The file is written after each."""
    subject, end = Subject(arguments.device, arguments.tiny), time.monotonic() + 60 * arguments.minutes
    results = {}
    for name in arguments.only:
        if held.get(name, {}).get("status") == DONE:
            results[name] = held[name]
            print(f"{name}: done before", flush=True)
            continue
        if time.monotonic() > end:
            results[name] = {"status": NOT_BEGUN, "said": f"{arguments.minutes:g} minutes are over"}
            continue
        print(name, flush=True)
        results[name] = held[name] = _part(subject, name)
        _write(arguments.out, head | {"parts": held})
    return results


def _part(subject: Subject, name: str) -> dict:
    """Run one part. Whatever it raises is its result: the check is there to find what breaks."""
    subject.figures, start, status, said = [], time.monotonic(), DONE, ""
    subject.free()
    try:
        PARTS[name](subject)
    except LeftOutError as reason:
        status, said = LEFT_OUT, str(reason)
    except WrongError as reason:
        status, said = FAILED, str(reason)
    except Exception as error:
        status, said = FAILED, f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    if said:
        print(f"  {status}: {said}", flush=True)
    peak = torch.cuda.max_memory_allocated() / 2**20 if subject.on_gpu else None
    figures = [dataclasses.asdict(figure) for figure in subject.figures]
    return {
        "status": status, "said": said, "seconds": time.monotonic() - start, "peak_mb": peak, "figures": figures
    }  # fmt: skip


def _held(path: Path, head: dict) -> dict:
    """Parts of an earlier run on the same machine with the same libraries."""
    try:
        saved = json.loads(path.read_text())
        return saved["parts"] if all(saved.get(key) == value for key, value in head.items()) else {}
    except (OSError, ValueError, KeyError):
        return {}


def _write(path: Path, record: dict) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(record, indent=2) + "\n")
    os.replace(temporary, path)


def _print_table(results: dict[str, dict]) -> None:
    print(f"\n{'part':<14}{'status':<11}{'seconds':>8}{'peak MB':>10}  share of limit, or what was said")
    for name, result in results.items():
        seconds = f"{result['seconds']:.1f}" if "seconds" in result else "-"
        peak = f"{result['peak_mb']:,.0f}" if result.get("peak_mb") is not None else "-"
        shares = [f"{f['value']:.3f}" for f in result.get("figures", ()) if f["name"].startswith("share")]
        print(f"{name:<14}{result['status']:<11}{seconds:>8}{peak:>10}  {result['said'] or ' '.join(shares)}".rstrip())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"of {','.join(PARTS)}; default: all")
    parser.add_argument("--minutes", type=float, default=10, help="begin no part after so long; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"), help="default: %(default)s")
    parser.add_argument("--again", action="store_true", help="also the parts that --out says are done")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="two-layer models: whether the check runs, not how fast")
    return parser.parse_args()


def _parts(words: str) -> list[str]:
    named = words.split(",")
    if unknown := [name for name in named if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return [name for name in PARTS if name in named]


if __name__ == "__main__":
    main()
