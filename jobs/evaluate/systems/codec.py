"""A codec, in three forms side by side: its dense latents, those latents through NF4, and refined ones.

Dense latents are what the encoder gives. The bank stores NF4, so that row has the codec's plain name; the refined one
is what `nextmem refine` makes of it. One encoding serves all three, and search too: the embedding is the encoder's.
Shapes: B texts, L tokens, K latents, D hidden width, E embedding width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from jobs.evaluate.banked import bank_of
from jobs.evaluate.budget import budget
from jobs.evaluate.reader import Reader
from jobs.evaluate.sets import Text
from jobs.evaluate.system import Answer, Memory, Opening, Question, System
from model.backbone import default_device
from model.batches import batches
from model.codec import Codec
from model.codec_io import load_codec
from model.config import RefineConfig, VerifyConfig
from model.default_codec import UNTRAINED, default_codec_folder, untrained_codec_folder
from model.embedded import EMBEDDED
from model.memory import StoredMemory
from model.precision import default_precision
from pipeline.bank.bank import Bank
from pipeline.bank.search import embed_queries

BATCH = 128  # texts at once; drafts of so many take a fifth less a text than of 16 to 64
GROUP = 32  # texts of nearly one length that are encoded together: more are no faster
BITS = {"dense": 16}  # a stored value; NF4 counts its codes and scales
STEP = 2.5  # encodes that a step of refining costs (docs/experiments.md)


def opened(name: str, folder: Path | None, opening: Opening) -> list[System]:
    """Dense, NF4 and, where steps are asked for, refined, but not an untrained one. Raises what `load_codec` raises."""
    if folder is None:
        make = untrained_codec_folder if name == UNTRAINED else default_codec_folder
        folder = make(opening.backbone or EMBEDDED)
    precision = default_precision(default_device()) if opening.precision == "auto" else opening.precision
    codec = load_codec(folder, backbone_name=opening.backbone, verifying=VerifyConfig.of(precision), keep_plain=True)
    dense = CodecSystem(name, folder, codec, "dense")
    forms: list[System] = [dense, CodecSystem(name, folder, codec, "nf4", base=dense)]
    if opening.refine and name != UNTRAINED:
        forms.append(CodecSystem(name, folder, codec, "refined", base=dense, steps=opening.refine))
    return forms


class CodecSystem:
    """One form of a codec. `dense` alone encodes texts; the others start from what it made."""

    kind, batch = "codec", BATCH

    def __init__(
        self, name: str, folder: Path, codec: Codec, form: str, *, base: CodecSystem | None = None, steps: int = 0
    ):
        self.name = {"nf4": name, "dense": f"{name} dense", "refined": f"{name} refined {steps}"}[form]
        self.folder, self.codec, self.form, self.base, self.steps = folder, codec, form, base, steps
        self.identity = f"codec {codec.identity} {codec.backbone.precision} {form} {steps}"
        searches = {"embed", "bank"} if form == "nf4" else set()  # the others' embedding is the same
        exact = set() if form == "dense" else {"recall"}  # a bank stores no dense latents
        long = set() if steps else {"encode long"}
        self.can = frozenset({"encode", "decode", "answer"} | searches | exact | long)
        self.about = {
            "form": form,
            "refine_steps": steps,
            "backbone": codec.backbone.name,
            "precision": codec.backbone.precision,
            "latents": codec.config.num_latents,
            "made": codec.config.latents,
            "width": codec.backbone.width,
            "chunk_tokens": codec.config.chunk_tokens,
            **budget(folder),
        }

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], before: Sequence[Memory] | None = None) -> list[Memory]:
        """Texts longer than a chunk get latents too, but no fidelity and no patch."""
        chunks = [np.array(self.codec.tokenizer.encode(text), dtype=np.int32) for text in texts]
        made: list[Memory | None] = [None] * len(texts)
        for group in batches([len(ids) for ids in chunks], GROUP):
            some = [chunks[i] for i in group]
            if before is None:
                found = self._dense(some)
            else:
                latents_BKD = torch.from_numpy(np.stack([before[i].parts["latents"] for i in group]))
                found = self._stored(latents_BKD.to(self.codec.backbone.device), some)
            for i, memory in zip(group, found, strict=True):
                made[i] = memory
        return made

    def decode(self, memories: Sequence[Memory]) -> list[str]:
        latents_BKD = _stacked(memories).to(self.codec.backbone.device)
        drafts = self.codec.draft(latents_BKD, [memory.tokens for memory in memories])
        return [self.codec.tokenizer.decode(ids.tolist()) for ids in drafts]

    def recall(self, memories: Sequence[Memory]) -> list[str]:
        rows = [
            StoredMemory(
                codes=memory.parts["codes"].tobytes(),
                scales=memory.parts["scales"].tobytes(),
                num_tokens=memory.tokens,
                patch=memory.parts["patch"].tobytes(),
                matches=partial(_matches, memory.parts["hash"].tobytes()),
            )
            for memory in memories
        ]
        return [self.codec.tokenizer.decode(found.token_ids.tolist()) for found in self.codec.recall(rows)]

    def embed(self, texts: Sequence[str], *, query: bool = False) -> list[np.ndarray]:
        """A query as `nextmem search` embeds it; a passage as a bank does, a vector a chunk."""
        if query:
            groups = [texts[first : first + GROUP] for first in range(0, len(texts), GROUP)]
            return [vector_E[None] for group in groups for vector_E in embed_queries(self.codec, group)]
        cut = self.codec.tokenizer.cut_many(texts, self.codec.config.chunk_tokens)
        chunks = [(place, ids) for place, some in enumerate(cut) for ids in some]
        vectors: list[list[np.ndarray]] = [[] for _ in texts]
        for group in batches([len(ids) for _, ids in chunks], GROUP):
            group = sorted(group)
            for i, memory in zip(group, self.codec.memorise([chunks[i][1] for i in group], verify=False), strict=True):
                vectors[chunks[i][0]].append(memory.embedding_E)
        return [np.stack(some) if some else np.zeros((0, self.codec.embedding_width), np.float32) for some in vectors]

    def bank(self, corpus: Sequence[Text], folder: Path) -> Bank:
        return bank_of(corpus, self.folder, folder, backbone=self.codec.backbone.name)

    @torch.inference_mode()
    def answer(self, memories: Sequence[Memory], questions: Sequence[Question], reader: Reader) -> list[Answer]:
        """With latents through the gain, as the decoder reads them, in the plain backbone's prompt."""
        return reader.read(list(self.codec.as_embeds(_stacked(memories))), questions)

    def _dense(self, chunks: Sequence[np.ndarray]) -> list[Memory]:
        latents_BKD = self.codec.encode(*_padded(self.codec, chunks))
        values = latents_BKD[0].numel() * BITS["dense"] // 8
        verified = self._verified(latents_BKD, chunks)
        return [
            Memory({"latents": latents_KD}, len(ids), values, None, fidelity)
            for latents_KD, ids, (fidelity, _) in zip(_arrays(latents_BKD), chunks, verified, strict=True)
        ]

    def _stored(self, latents_BKD: torch.Tensor, chunks: Sequence[np.ndarray]) -> list[Memory]:
        """Of a bank's row: codes, scales, patch, and the latents that they stand for."""
        work = [1.0] * len(chunks)
        if self.steps:
            refined = self.codec.refine(latents_BKD.to(self.codec.backbone.dtype), chunks, RefineConfig(self.steps))
            latents_BKD = refined.latents_BKD
            work = [1 + STEP * each.steps for each in refined.refinings]
        codes_BC, scales_BG = self.codec.quantise(latents_BKD)
        stored_BKD = self.codec.dequantise(codes_BC, scales_BG)
        verified = self._verified(stored_BKD, chunks)
        codes, scales = codes_BC.cpu().numpy(), scales_BG.cpu().numpy()
        return [
            Memory(
                {
                    "latents": latents_KD,
                    "codes": codes[i],
                    "scales": scales[i],
                    "patch": np.frombuffer(verified[i][1] or b"", dtype=np.uint8),
                    "hash": np.frombuffer(_hash(chunks[i]), dtype=np.uint8),
                },
                len(chunks[i]),
                codes[i].nbytes + scales[i].nbytes,
                None if verified[i][1] is None else len(verified[i][1]),
                verified[i][0],
                work[i],
            )
            for i, latents_KD in enumerate(_arrays(stored_BKD))
        ]

    def _verified(self, latents_BKD: torch.Tensor, chunks: Sequence[np.ndarray]) -> list[tuple]:
        if max(map(len, chunks)) > self.codec.config.chunk_tokens:
            return [(None, None)] * len(chunks)
        return self.codec.verify(latents_BKD, chunks)


def _padded(codec: Codec, chunks: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """As `Codec.pad`, for texts of any length."""
    longest = max(map(len, chunks))
    ids_BL = torch.tensor(np.stack([np.pad(ids, (0, longest - len(ids))) for ids in chunks]), dtype=torch.long)
    lengths_B = torch.tensor([len(ids) for ids in chunks])
    return ids_BL.to(codec.backbone.device), lengths_B.to(codec.backbone.device)


def _stacked(memories: Sequence[Memory]) -> torch.Tensor:
    """float32 [B, K, D]: what the decoder reads."""
    return torch.from_numpy(np.stack([memory.parts["latents"] for memory in memories]))


def _arrays(latents_BKD: torch.Tensor) -> np.ndarray:
    return latents_BKD.float().cpu().numpy()


def _hash(ids: np.ndarray) -> bytes:
    return hashlib.blake2b(np.asarray(ids, dtype="<u4").tobytes(), digest_size=16).digest()


def _matches(wanted: bytes, ids: np.ndarray) -> bool:
    return _hash(ids) == wanted
