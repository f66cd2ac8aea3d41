"""Rate and distortion: the first latents of a memory are a shorter memory. What comes back of them, against bytes.

Each system has its own bits a value: a codec's dense row 16, its NF4 row about 4.3.
"""

from __future__ import annotations

from jobs.evaluate.outcome import Measured, Outcome
from jobs.evaluate.sets import EvalSet
from jobs.evaluate.system import System
from jobs.evaluate.tasks.noise import TEXTS, drafted, with_latents, without_latents
from jobs.evaluate.work import Work

NEEDS = frozenset({"encode", "decode"})
MIXED = True
HAS = "texts"
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the latents


def measure(work: Work, system: System, data: EvalSet) -> Outcome:
    texts = [each.text for each in data.texts[:TEXTS]]
    memories = work.memories(system, texts)
    if why := without_latents(memories):
        return Outcome([], [], absent=[("rate", f"{system.name} {why}")])
    latents, width = memories[0].parts["latents"].shape
    stored = sum(memory.stored_bytes for memory in memories) / len(memories)
    bits = 8 * stored / (latents * width)
    measured: list[Measured] = []
    for kept in sorted({max(1, round(share * latents)) for share in SHARES}):
        few = [with_latents(memory, memory.parts["latents"][:kept]) for memory in memories]
        made_from = [text if kept == latents else ["first", kept, text] for text in texts]
        at: dict[str, object] = {"latents": kept, "bits": bits, "bytes": stored * kept / latents}
        measured += drafted(texts, work.drafts(system, few, made_from), at)
    return Outcome([each.id for each in data.texts[:TEXTS]], measured)
