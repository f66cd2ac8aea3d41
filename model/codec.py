"""The codec: token ids to memories and back. Encoder + decoder over one frozen backbone.

Shapes: B chunks, L text tokens, K latents, k of them stored, D hidden width, E embedding width.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch

from model.backbone import Backbone
from model.config import MEAN, CodecConfig, RefineConfig, VerifyConfig
from model.finite import require_finite
from model.gain import LatentGain
from model.head import MeanPooling, PoolingHead, padded
from model.latents import Reading, decoder_start, draft_tokens, encode_latents, read_tokens
from model.memory import Memory, Recollection, Statistics, StoredMemory
from model.mend import Mender
from model.patch import FORCED, RAW, Patch, PatchFormat, make_patch
from model.quantiser import Quantiser
from model.rate import STANDARDISED, Rate
from model.refine import Refined, refine
from model.refusal import Refusal
from model.window import draft_alone

if TYPE_CHECKING:
    from peft import PeftModel

    from model.adapters import MergedAdapters


ROOM = 8  # tokens past a text's length, after which drafting gives up on an end


class Codec:
    """Encode, verify and recall chunks of at most `config.chunk_tokens` tokens. Not safe for use by several threads.

    Made by `load_codec` and `untrained_codec`. marker_D (start of decode), gain and slots_KD are float32 on the CPU;
    `wrapped` is the PeftModel around the backbone, None where the codec has no adapters or they are `merged` with it.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: CodecConfig,
        *,
        marker_D: torch.Tensor,
        gain: LatentGain,
        statistics: Statistics,
        verifying: VerifyConfig | None = None,
        identity: str = "",
        head: PoolingHead | None = None,
        wrapped: PeftModel | None = None,
        merged: MergedAdapters | None = None,
        slots_KD: torch.Tensor | None = None,
    ):
        if (head is None) != (config.pooling == MEAN):
            raise Refusal(f"pooling={config.pooling}: only `nextmem train --system head` makes a codec with a head")
        if (statistics.directions_RD is None) != (config.quantiser == STANDARDISED):
            raise Refusal(f"quantiser={config.quantiser}: only `nextmem convert --rank` makes a codec with directions")
        self.backbone, self.config, self.identity = backbone, config, identity
        self.verifying = verifying or VerifyConfig.of(backbone.precision)
        self.marker_D, self.gain, self.statistics = marker_D, gain, statistics
        self.wrapped, self.merged, self.slots_KD = wrapped, merged, slots_KD
        self.head = None if head is None else head.to(backbone.device)
        self.patches = PatchFormat(config.chunk_tokens, backbone.vocab_size)
        self._layers = []
        if wrapped is not None:
            from model.adapters import adapter_layers  # peft takes a second to import

            self._layers = adapter_layers(wrapped)
        self._start_SD = decoder_start(backbone, config.decoder_start)
        self._marker_D = marker_D.to(backbone.device, backbone.dtype)
        self._gain = gain.to(backbone.device, backbone.dtype)
        self.quantiser = Quantiser(statistics, config.num_latents, self.verifying.rate, backbone.device)
        mean = MeanPooling(backbone.width, statistics.projection_DE, backbone.device)
        self._pooling: PoolingHead | MeanPooling = self.head or mean

    @property
    def tokenizer(self):
        return self.backbone.tokenizer

    @property
    def embedding_width(self) -> int:
        return self._pooling.embedding_width

    def at(self, rate: Rate, statistics: Statistics | None = None) -> Codec:
        """This codec with rows of another rate, or stored by other statistics. The backbone and its adapter are shared.

        Raises Refusal for more latents than the codec makes.
        """
        other = copy.copy(self)
        other.verifying = dataclasses.replace(self.verifying, rate=rate)
        other.statistics = statistics or self.statistics
        other.quantiser = Quantiser(other.statistics, self.config.num_latents, rate, self.backbone.device)
        return other

    @torch.inference_mode()
    def memorise(self, chunks: Sequence[np.ndarray], *, verify: bool = True) -> list[Memory]:
        """One batch of chunks (token ids, 1 to chunk_tokens each) to memories, in the same order.

        Verifying reads the dequantised latents, that is what recall will read. Raises torch.OutOfMemoryError as it
        comes, and NotFiniteError where the device or the codec computes what is no number, whatever the chunks are;
        `batches` says how to group chunks.
        """
        return self.keep(self.encode(*self.pad(chunks)), chunks, verify=verify)

    def refine(self, latents_BKD: torch.Tensor, chunks: Sequence[np.ndarray], config: RefineConfig) -> Refined:
        """Latents that stand for the same chunks and need smaller patches; the encoder's where none were found.

        Only those that a row stores, [B, k, D]. Exact recall needs nothing else: `keep` verifies whatever they are.
        """
        self._switch("decoder")
        return refine(self, latents_BKD[:, : self.quantiser.latents], chunks, config)

    @torch.inference_mode()
    def keep(
        self,
        latents_BKD: torch.Tensor,
        chunks: Sequence[np.ndarray],
        *,
        verify: bool = True,
        refined: Refined | None = None,
    ) -> list[Memory]:
        """What becomes of latents that are made already: the rest of `memorise`.

        With `refined`, its latents are stored and verified, and the embedding is still that of `latents_BKD`.
        """
        require_finite(latents_BKD, "latents are", rows="chunk")
        codes_BC, scales_BG = self.quantise(latents_BKD if refined is None else refined.latents_BKD)
        embedding_BE = self.embed(latents_BKD).cpu().numpy()
        readings = self.verify(self.dequantise(codes_BC, scales_BG), chunks) if verify else [(None, None)] * len(chunks)
        codes, scales = codes_BC.cpu().numpy(), scales_BG.cpu().numpy()
        refinings = [None] * len(chunks) if refined is None else refined.refinings
        return [
            Memory(codes[i].tobytes(), scales[i].tobytes(), embedding_BE[i], *readings[i], refinings[i])
            for i in range(len(chunks))
        ]

    @torch.inference_mode()
    def read(self, latents_BKD: torch.Tensor, ids_BL: torch.Tensor) -> Reading:
        """What the decoder makes of known token ids after these latents, the text before each position given."""
        return self._read(self.prefix(latents_BKD), ids_BL)

    @torch.inference_mode()
    def encode(self, ids_BL: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """Latents [B, K, D] of right-padded token ids, in the backbone's dtype. NotFiniteError."""
        self._switch("encoder")
        latents_BKD = encode_latents(
            self.backbone, ids_BL, lengths_B, self._marker_D, self._gain, self.config.num_latents, self.slots_KD
        )
        require_finite(latents_BKD, "latents are", rows="chunk")
        return latents_BKD

    def pad(self, chunks: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Right-padded ids [B, L] and lengths [B] on the backbone's device. ValueError: an empty or overlong chunk."""
        lengths = np.array([len(chunk) for chunk in chunks])
        if len(lengths) == 0 or lengths.min() < 1 or lengths.max() > self.config.chunk_tokens:
            raise ValueError(
                f"chunks of {sorted(set(lengths.tolist()))} tokens; wanted 1 to {self.config.chunk_tokens}"
            )
        ids_BL, lengths_B = padded(chunks)
        return ids_BL.to(self.backbone.device), lengths_B.to(self.backbone.device)

    def quantise(self, latents_BKD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and scales of the latents that a row stores (model/quantiser.py). NotFiniteError."""
        return self.quantiser.quantise(latents_BKD)

    def dequantise(self, codes_BC: torch.Tensor, scales_BG: torch.Tensor) -> torch.Tensor:
        """float32 latents [B, k, D], as many as a row stores."""
        return self.quantiser.dequantise(codes_BC, scales_BG)

    def as_embeds(self, latents_BKD: torch.Tensor) -> torch.Tensor:
        """[B, K, D] in the backbone's dtype: latents through the gain, as the decoder reads them among embeddings."""
        return self._gain(latents_BKD.to(self.backbone.device, self.backbone.dtype))

    def embed(self, latents_BKD: torch.Tensor) -> torch.Tensor:
        """float32 [B, E], of length 1: the head's, or the mean of the standardised latents, projected where D is wide.

        NotFiniteError.
        """
        embedding_BE = self._pooling.embed_latents(self.quantiser.standardise(latents_BKD))
        require_finite(embedding_BE, "embeddings are", rows="chunk")
        return embedding_BE

    @torch.inference_mode()
    def embed_queries(self, queries: Sequence[np.ndarray]) -> torch.Tensor:
        """float32 [B, E] of token ids, by the head's light side: no forward of the backbone. Needs a head."""
        ids_BL, lengths_B = (part.to(self.backbone.device) for part in padded(queries))
        return self.head.embed_tokens(self.backbone.embed(ids_BL), ids_BL, lengths_B)

    @torch.inference_mode()
    def recall(self, rows: Sequence[StoredMemory], *, patched: bool = True, k: int | None = None) -> list[Recollection]:
        """One batch of rows to tokens. With `patched=False`, what the latents alone give, or the first `k` of them, up
        to the end they give it, at most ROOM tokens longer than the text was.

        A draft that does not match is mended (model/mend.py); what still differs comes back with `exact=False`, for the
        caller to refuse.
        """
        patches = [self._unpack(row, patched) for row in rows]
        found: dict[int, np.ndarray] = {i: p.tokens for i, p in enumerate(patches) if p.kind == RAW}
        drafted = [i for i, p in enumerate(patches) if p.kind != RAW]
        if drafted:
            prefix = self.prefix(self.stored_latents([rows[i] for i in drafted])[:, :k])
            room = 0 if patched else ROOM
            forced = [patches[i].forced(rows[i].num_tokens + room) for i in drafted]
            for i, tokens in zip(drafted, self._draft(prefix, forced), strict=True):
                found[i] = tokens
            if patched:
                self._mend(rows, drafted, prefix, forced, found)
            else:
                found = {i: self.until_end(tokens) for i, tokens in found.items()}
        return [Recollection(found[i], row.matches(found[i]), self._carried(row)) for i, row in enumerate(rows)]

    @torch.inference_mode()
    def draft(self, latents_BKD: torch.Tensor, lengths: Sequence[int]) -> list[np.ndarray]:
        """Token ids that greedy decoding gives for each chunk of L tokens, from these latents alone, until it ends.

        A draft that does not end comes back ROOM tokens too long: cut at L it would pass for the text.
        """
        free = [np.full(length + ROOM, -1, dtype=np.int64) for length in lengths]
        return [self.until_end(tokens) for tokens in self._draft(self.prefix(latents_BKD), free)]

    def until_end(self, tokens_L: np.ndarray) -> np.ndarray:
        """Drafted tokens before the first end-of-text among them: a draft goes on to the length it was given."""
        ends = np.flatnonzero(tokens_L == self.backbone.end_token)
        return tokens_L[: ends[0]] if len(ends) else tokens_L

    def prefix(self, latents_BKD: torch.Tensor) -> torch.Tensor:
        """What the decoder reads before the text: its start, latents through the gain, the marker. [B, S + K + 1, D]"""
        latents = self.as_embeds(latents_BKD)
        start_BSD, marker_B1D = (part.expand(len(latents), -1, -1) for part in (self._start_SD, self._marker_D[None]))
        return torch.cat([start_BSD, latents, marker_B1D], dim=1)

    def plain(self) -> AbstractContextManager[None]:
        """The backbone without adapters for a while; of merged ones `load_codec` must have kept the backbone's own."""
        merged, wrapped = self.merged, self.wrapped
        return merged.plain() if merged else wrapped.disable_adapter() if wrapped else nullcontext()

    @torch.inference_mode()
    def verify(self, latents_BKD: torch.Tensor, chunks: Sequence[np.ndarray]) -> list[tuple[float, bytes]]:
        """(fidelity, patch) of each chunk, were these latents, as they are, what recall reads."""
        ids_BL, _ = self.pad(chunks)
        lead_BL = self._read(self.prefix(latents_BKD), ids_BL).lead_BL.cpu().numpy()
        return [self.judge(lead_L[: len(chunk)], chunk) for lead_L, chunk in zip(lead_BL, chunks, strict=True)]

    def judge(self, lead_L: np.ndarray, chunk: np.ndarray) -> tuple[float, bytes]:
        """(fidelity, patch) of a chunk whose tokens lead their rivals by so much, in logits."""
        patch = make_patch(chunk, lead_L <= self.verifying.margin, raw_share=self.verifying.raw_share)
        return float((lead_L > 0).mean()), self.patches.pack(patch)

    def _carried(self, row: StoredMemory) -> float | None:
        return None if row.patch is None else self.patches.unpack(row.patch).carried(row.num_tokens)

    def _unpack(self, row: StoredMemory, patched: bool) -> Patch:
        if patched and row.patch is not None:
            return self.patches.unpack(row.patch)
        return Patch(FORCED, np.empty(0, np.int64), np.empty(0, np.int64))

    def stored_latents(self, rows: Sequence[Memory | StoredMemory]) -> torch.Tensor:
        """float32 [B, K, D], as recall reads them."""
        return self.dequantise(*self.quantiser.packed([row.codes for row in rows], [row.scales for row in rows]))

    def _draft(self, prefix_BSD: torch.Tensor, forced: Sequence[np.ndarray]) -> list[np.ndarray]:
        self._switch("decoder")
        if len(forced) == 1:
            return [draft_alone(self.backbone, prefix_BSD[0], forced[0])]
        longest = max(len(f) for f in forced)
        forced_BL = np.stack([np.pad(f, (0, longest - len(f)), constant_values=-1) for f in forced])
        tokens = draft_tokens(self.backbone, prefix_BSD, torch.from_numpy(forced_BL).to(prefix_BSD.device))
        return [row[: len(f)] for row, f in zip(tokens.cpu().numpy(), forced, strict=False)]

    def _mend(self, rows, drafted, prefix_BSD, forced, found) -> None:
        """Look for the tokens of each row whose draft does not match; where they are not found the draft stays."""
        mender = Mender(self._draft, self._read, self.verifying.margin)
        for place, i in enumerate(drafted):
            if rows[i].patch is not None and not rows[i].matches(found[i]):
                mended = mender.mend(prefix_BSD[place], forced[place], found[i], rows[i].matches)
                found[i] = found[i] if mended is None else mended

    def _read(self, prefix_BSD: torch.Tensor, ids_BL: torch.Tensor) -> Reading:
        self._switch("decoder")
        return read_tokens(self.backbone, prefix_BSD, ids_BL)

    def _switch(self, name: str) -> None:
        """To one adapter's weights. Without adapters the backbone is both encoder and decoder."""
        if self.merged is not None:
            self.merged.switch(name)
        elif self.wrapped is not None:
            from model.adapters import switch_adapter

            switch_adapter(self._layers, name)
