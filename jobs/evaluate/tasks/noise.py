"""Noise: Gaussian noise on the latents, in units of each channel's deviation, before they are decoded.

A deviation is over the latents of the texts at hand. A text's noise has one direction at every strength, and is the
same for all systems whose latents have one shape. Shapes: N texts, K latents, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jobs.evaluate.kept import key_of
from jobs.evaluate.outcome import Measured, Outcome
from jobs.evaluate.sets import EvalSet
from jobs.evaluate.system import Memory, System
from jobs.evaluate.work import Work
from model.reconstruction import word_f1

NEEDS = frozenset({"encode", "decode"})
MIXED = True  # texts of all sets together
HAS = "texts"
TEXTS = 48  # that are taken, at most
SIGMAS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)


def measure(work: Work, system: System, data: EvalSet) -> Outcome:
    """F1 and whole texts at each strength; `norm` is the mean length of the noise on one latent."""
    texts = [each.text for each in data.texts[:TEXTS]]
    memories = work.memories(system, texts)
    if why := without_latents(memories):
        return Outcome([], [], absent=[("noise", f"{system.name} {why}")])
    deviation_D = np.concatenate([memory.parts["latents"] for memory in memories]).std(axis=0)
    units = [_noise(text, m.parts["latents"]) for text, m in zip(texts, memories, strict=True)]
    sample = key_of(texts)  # whose deviations they are
    measured = []
    for sigma in SIGMAS:
        noises = [sigma * deviation_D * unit_KD for unit_KD in units]
        noisy = [with_latents(m, m.parts["latents"] + noise) for m, noise in zip(memories, noises, strict=True)]
        made_from = [text if sigma == 0 else ["noise", sigma, text, sample] for text in texts]
        drafts = work.drafts(system, noisy, made_from)
        norm = float(np.mean([np.linalg.norm(noise, axis=-1).mean() for noise in noises]))
        measured += drafted(texts, drafts, {"sigma": sigma, "norm": norm})
    return Outcome([each.id for each in data.texts[:TEXTS]], measured)


def drafted(texts: Sequence[str], drafts: Sequence[str], at: dict[str, object]) -> list[Measured]:
    both = list(zip(texts, drafts, strict=True))
    whole = [float(text == draft) for text, draft in both]
    return [Measured("f1", [word_f1(*each) for each in both], at), Measured("whole", whole, at)]


def with_latents(memory: Memory, latents_KD: np.ndarray) -> Memory:
    return replace(memory, parts=memory.parts | {"latents": latents_KD.astype(np.float32)})


def without_latents(memories: Sequence[Memory]) -> str | None:
    """Why they cannot be changed; None where they can."""
    return None if all("latents" in memory.parts for memory in memories) else "keeps no latents that could be changed"


def _noise(text: str, like_KD: np.ndarray) -> np.ndarray:
    seed = int(key_of("noise", text)[:16], 16)
    return np.random.default_rng(seed).standard_normal(like_KD.shape).astype(np.float32)
