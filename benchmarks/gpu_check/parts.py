"""The parts of the check, each a function of the subject. What is wrong is raised; what is measured is noted.

Shapes: B chunks, K latents, D hidden width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.encode_loop import encode_again, relative_error
from benchmarks.exactness import Encoded, recall_in
from benchmarks.gpu_check.shapes import random_backbone, weight_bytes
from benchmarks.gpu_check.subject import TINY_CODEC, LeftOutError, Subject, WrongError, texts
from model.codec import Codec
from model.config import RefineConfig
from model.memory import Memory
from model.speed import body_weights, encode_flop
from model.tokens import text_hash
from model.training.curriculum import Place, TrainConfig
from model.training.flop import step_flop
from model.training.trainee import Trainee
from model.training.trainer import Trainer
from model.untrained import untrained_codec

STEPS = 5  # of training
SPARE = 1 << 30  # bytes that the part which runs out of memory is left with
ROUNDING = {"fp32": 1e-3, "bf16": 0.1}  # of the first two latents; each multiplies what differs in the one before
SHARES = {"smollm2-135m": 0.2, "qwen3-0.6b": 0.35, "qwen3-8b": 0.5}  # of the limit, the least


def encode(subject: Subject) -> None:
    codec, count = subject.codec, 16 if subject.tiny else 256
    ids_BL, lengths_B = codec.pad(subject.chunks(count))
    seconds = subject.seconds(lambda: codec.encode(ids_BL, lengths_B))
    latents_BKD = codec.encode(ids_BL, lengths_B)
    if not torch.isfinite(latents_BKD).all():
        raise WrongError("latents that are not finite")
    flop = count * encode_flop(body_weights(codec.backbone), ids_BL.shape[1], codec.config.num_latents)
    subject.note("codec", f"{codec.backbone.name}, {subject.precision}")
    subject.note("matrix products", subject.rate / 1e12, "TFLOP/s")
    subject.note(f"encoding, batch {count}", count / seconds, "chunks/s")
    subject.note("share of the limit (MFU)", flop / seconds / subject.rate)


def verify(subject: Subject) -> None:
    codec, count = subject.codec, 16 if subject.tiny else 256
    chunks = subject.chunks(count)
    without = subject.seconds(lambda: codec.memorise(chunks, verify=False))
    both = subject.seconds(lambda: codec.memorise(chunks))
    memories = codec.memorise(chunks)
    if not all(np.isfinite(memory.embedding_E).all() for memory in memories):
        raise WrongError("embeddings that are not finite")
    subject.note(f"encoding and keeping, batch {count}", without, "s")
    subject.note("verifying, in encodings", (both - without) / without)
    subject.note("fidelity, mean", float(np.mean([memory.fidelity for memory in memories])))
    subject.note("patch, mean", float(np.mean([len(memory.patch) for memory in memories])), "bytes")


def recall(subject: Subject) -> None:
    """Exact in batches of any size, also one by one, of rows that were verified together."""
    codec, count = subject.codec, 8 if subject.tiny else 64
    chunks = subject.chunks(count)
    rows = [Encoded(ids, memory) for ids, memory in zip(chunks, codec.memorise(chunks), strict=True)]
    wrong, seconds = {}, math.nan
    for size in sorted({1, 2, 8, count}):
        some = rows[: 8 * size]
        drafted, exact, seconds = recall_in(codec, some, size)
        subject.note(f"exact in batches of {size}", f"{exact} of {len(some)}, {drafted} as drafted")
        wrong |= {size: len(some) - exact} if exact < len(some) else {}
    subject.note(f"recall in a batch of {count}", count / seconds, "chunks/s")
    if wrong:
        raise WrongError(f"rows not recalled exactly, by batch size: {wrong}")


def refine(subject: Subject) -> None:
    """Patches never grow, and what was refined is recalled exactly."""
    codec, count = subject.codec, 4 if subject.tiny else 64
    chunks, config = subject.chunks(count), RefineConfig(2 if subject.tiny else 8)
    encoding = subject.seconds(lambda: codec.encode(*codec.pad(chunks)))
    latents_BKD = codec.encode(*codec.pad(chunks))
    refining = subject.once(lambda: codec.refine(latents_BKD, chunks, config))
    refined = codec.refine(latents_BKD, chunks, config)
    memories = codec.keep(latents_BKD, chunks, refined=refined)
    before = float(np.mean([each.patch_bytes_before for each in refined.refinings]))
    after = float(np.mean([len(memory.patch) for memory in memories]))
    subject.note(f"refining in {config.steps} steps, in encodings", refining / encoding)
    subject.note("patch, mean, before and after", f"{before:.1f} and {after:.1f}", "bytes")
    rows = [Encoded(ids, memory) for ids, memory in zip(chunks, memories, strict=True)]
    _, exact, _ = recall_in(codec, rows, count)
    if after > before:
        raise WrongError(f"refining made patches larger: {before:.1f} bytes became {after:.1f}")
    if not all(each.finite for each in refined.refinings) or exact < count:
        raise WrongError(f"{exact} of {count} refined rows recall exactly; not finite: "
                         f"{sum(not each.finite for each in refined.refinings)}")  # fmt: skip


def train(subject: Subject) -> None:
    chunks = subject.chunks(4 if subject.tiny else 32)
    backbone, _ = subject.backbone()
    config = TINY_CODEC if subject.tiny else subject.codec.config
    settings = TrainConfig(warmup_steps=0, learning_rate=1e-3)
    trainer = Trainer(Trainee(backbone, config), settings)
    place = Place(2, config.num_latents, 0, 0, 0, STEPS)
    trainer.enter(place, chunks)
    losses: list[float] = []
    seconds = subject.seconds(lambda: losses.append(trainer.step(chunks, place).loss), rounds=STEPS - 1)
    if not losses[-1] < losses[0]:
        raise WrongError(f"{STEPS} steps on one batch took the loss from {losses[0]:.3f} to {losses[-1]:.3f}")
    lengths = np.array([len(chunk) for chunk in chunks])
    flop = step_flop(body_weights(backbone), backbone.head.weight.numel(), lengths, place, config.num_latents)
    subject.note(f"a step of stage 2, {len(chunks)} chunks", seconds, "s")
    subject.note("tokens", int(lengths.sum()) / seconds, "tokens/s")
    subject.note("share of the limit (MFU)", flop / seconds / subject.rate)
    subject.note(f"loss over {STEPS} steps", f"{losses[0]:.3f} to {losses[-1]:.3f}")


def memory(subject: Subject) -> None:
    """Far more chunks at once than there is memory for: halved until they fit, every row made, nothing left held."""
    from pipeline.corpus.documents import Document
    from pipeline.encode.chunk import chunk_documents
    from pipeline.encode.memorise import Memoriser

    codec, size = subject.codec, 16 if subject.tiny else 2048
    documents = []
    while size * codec.config.chunk_tokens > sum(len(document.text) / 3 for document in documents):
        documents += [Document(f"{len(documents)}-{i}", t, text_hash(t), "samples") for i, t in enumerate(texts())]
    table = chunk_documents(documents, codec.tokenizer, chunk_tokens=codec.config.chunk_tokens).slice(0, 2 * size)
    codec.memorise(subject.chunks(2))
    subject.free()
    held = torch.cuda.memory_allocated() if subject.on_gpu else 0
    with _Scarce(subject, size // 4) as scarce:
        rows = Memoriser(codec, batch_size=size).memorise(table, "check")
    subject.note(
        f"ran out of memory, batches of {size}", scarce.failed, "times" if subject.on_gpu else "times, stood in"
    )
    if not scarce.failed:
        raise WrongError("memory did not run out, so nothing was checked")
    if rows.num_rows != table.num_rows or rows["codes"].null_count:
        raise WrongError(f"{rows.num_rows} rows of {table.num_rows} chunks")
    subject.free()
    left = (torch.cuda.memory_allocated() if subject.on_gpu else 0) - held
    subject.note("memory still held after it", left / 2**20, "MB")
    if left > SPARE / 8:
        raise WrongError(f"{left / 2**20:,.0f} MB of failed batches are still held")


class _Scarce:
    """A GPU with little memory left, or in its place a codec that takes `most` chunks at once. Counts what failed."""

    def __init__(self, subject: Subject, most: int):
        self.subject, self.most, self.failed = subject, most, 0
        self.whole = subject.codec.memorise

    def __enter__(self) -> _Scarce:
        self.subject.codec.memorise = self._memorise
        if self.subject.on_gpu:
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + SPARE) / total))
        return self

    def __exit__(self, *_) -> None:
        del self.subject.codec.memorise
        if self.subject.on_gpu:
            torch.cuda.set_per_process_memory_fraction(1.0)

    def _memorise(self, chunks, **named) -> list[Memory]:
        try:
            if not self.subject.on_gpu and len(chunks) > self.most:
                raise torch.OutOfMemoryError("a check's own")
            return self.whole(chunks, **named)
        except torch.OutOfMemoryError:
            self.failed += 1
            raise


def shape(subject: Subject, name: str) -> None:
    """Encoding over the cache against feeding the whole prefix again, on random weights of a model's shape."""
    if subject.on_gpu:
        free, _ = torch.cuda.mem_get_info()
        if weight_bytes(name) > 0.8 * free:
            raise LeftOutError(f"needs {weight_bytes(name) / 1e9:.0f} GB for weights, {free / 1e9:.0f} GB are free")
    backbone = random_backbone(name, subject.precision, subject.device, tiny=subject.tiny)
    codec = untrained_codec(backbone, TINY_CODEC if subject.tiny else None, verifying=subject.verifying)
    size, seconds = _fitting(subject, codec, 8 if subject.tiny else 256)
    flop = encode_flop(body_weights(backbone), codec.config.chunk_tokens, codec.config.num_latents)
    subject.note(f"encoding, batch {size}", size / seconds, "chunks/s")
    subject.note("share of the limit (MFU)", size * flop / seconds / subject.rate, least=SHARES[name])
    batch, fed_again = _random_batch(codec, size), []
    again = subject.once(lambda: fed_again.append(encode_again(codec, batch[0])))
    subject.note("speed over feeding the prefix again", again / seconds, "times", least=10)
    error = relative_error(codec.encode(*batch)[:, :2], fed_again[0][:, :2])
    subject.note("relative difference of the first two latents", error)
    if not error < ROUNDING[subject.precision]:
        raise WrongError(f"one of the first two latents differs by {error:.2g} of its length")


def _fitting(subject: Subject, codec: Codec, size: int) -> tuple[int, float]:
    """The batch, halved until it fits, and the seconds it takes."""
    while True:
        batch, seconds = _random_batch(codec, size), math.nan
        try:
            seconds = subject.seconds(lambda batch=batch: codec.encode(*batch))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        if not math.isnan(seconds):
            return size, seconds
        size //= 2
        subject.free()


def _random_batch(codec: Codec, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return codec.pad(list(rng.integers(3, codec.backbone.vocab_size, size=(size, codec.config.chunk_tokens))))


PARTS: dict[str, Callable[[Subject], None]] = {
    "encode": encode,
    "verify": verify,
    "recall": recall,
    "refine": refine,
    "train": train,
    "memory": memory,
    **{name: partial(shape, name=name) for name in SHARES},
}
