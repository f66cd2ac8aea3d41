"""What is trained: two adapters, the marker and the gain over one frozen backbone.

Shapes: D hidden width. Adapters are held in the backbone's dtype, marker and gain in float32; the optimizer keeps
float32 masters of all of it (model/training/optimizer.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import nn

from model.adapters import adapter_tensors, add_adapters, set_adapter_tensors
from model.backbone import Backbone
from model.codec import Codec
from model.codec_io import make_codec
from model.config import CodecConfig
from model.gain import LatentGain, Regression, length_gain, regress
from model.latents import decoder_start
from model.memory import Statistics
from model.slots import first_slots
from model.speed import body_weights
from model.training.compiled import compile_layers
from model.training.curriculum import Place, TrainConfig
from model.training.flop import step_flop
from model.training.losses import Batch, Scored, plain_loss, stage1_loss, stage2_loss
from model.training.merging import MergedLayers
from model.training.sampling import Sample, write_sample
from model.training.sharding import shard_layers
from model.untrained import base_marker, latents_of

NEUTRAL = {"gain": 1.0}  # of what trains, by name: where it changes nothing. Of adapters and marker that is 0


class Trainee:
    """A codec in the making. Its gain is measured when stage 2 begins.

    `shard_on`: a device; each worker of the group then holds a share of the frozen layers there.
    """

    def __init__(self, backbone: Backbone, config: CodecConfig, *, seed: int = 0, shard_on: str | None = None):
        self.backbone, self.config = backbone, config
        self._sizes = body_weights(backbone), backbone.head.weight.numel()  # before there are adapters
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.wrapped = add_adapters(backbone, config)
        if shard_on is not None:
            shard_layers(backbone, shard_on)
        self.base_D = base_marker(backbone, config.marker_word).to(backbone.device)
        self.delta_D = nn.Parameter(torch.zeros_like(self.base_D), requires_grad=False)
        self.start_SD = decoder_start(backbone, config.decoder_start)
        self.first_gain: LatentGain | Regression = LatentGain()
        self.factor_D = nn.Parameter(torch.ones_like(self.base_D), requires_grad=False)
        self.statistics = Statistics(torch.zeros(backbone.width), torch.ones(backbone.width), None)
        self.slots_KD: nn.Parameter | None = None
        if config.latents == "parallel":
            self.slots_KD = nn.Parameter(first_slots(backbone, config).to(self.base_D), requires_grad=False)
        self._training: dict[str, nn.Parameter] = {}
        self._recomputes = False
        self._merged: MergedLayers | None = None
        self._merged_holds = False
        self.compiles = self.nested = False

    @property
    def marker_D(self) -> torch.Tensor:  # noqa: N802
        """The start-of-decode marker in the backbone's dtype: a frozen word's embedding plus what is learned."""
        return (self.base_D + self.delta_D).to(self.backbone.dtype)

    @property
    def gain(self) -> LatentGain:
        """The gain that stage 2 began with times a factor a channel that trains: the gain itself is far smaller than an
        adapter's weights, so its own gradient would drown theirs when the norm is held."""
        if isinstance(self.first_gain, Regression):
            return self.first_gain.gain(self.factor_D)
        if self.first_gain.factor_D is None:
            return self.first_gain
        return LatentGain(self.first_gain.factor_D * self.factor_D)

    def prepare(self, config: TrainConfig) -> None:
        """Once, before the first step: how its forwards are to be computed."""
        self.nested = config.nested
        if config.gradient_checkpointing:
            self.recompute_layers()
        if config.compile_layers:
            self.compile_layers()
        if config.merged and not (self.config.load_in_4bit or config.shard_backbone):
            self.merge_to_generate()

    def score(self, batch: Batch, place: Place, *, quantise: bool = False) -> Scored:
        """The loss of a batch at a place of the curriculum."""
        if place.stage == 1:
            return stage1_loss(self, batch)
        return stage2_loss(self, batch, place.substage, quantise=quantise)

    def plain(self, batch: Batch) -> Scored:
        """The backbone's own loss on the same labels."""
        return plain_loss(self, batch)

    def sample(self, chunk_L: np.ndarray, place: Place) -> Sample:
        """What is written of a chunk at a place, greedily."""
        return write_sample(self, chunk_L, place)

    def flop(self, lengths: np.ndarray, place: Place) -> float:
        """Of a step over chunks of these lengths."""
        feeds_back, (weights, head) = self.slots_KD is None, self._sizes
        return step_flop(weights, head, lengths, place, self.config.num_latents, feeds_back=feeds_back)

    def train(self, stage: int, trains: str) -> dict[str, nn.Parameter]:
        """Choose what trains, by name: decoder adapter and marker in stage 1; in stage 2 the encoder adapter with its
        slots, a learned gain, with `trains="encoder_marker"` the marker too, and with `trains="both"` all of it."""
        adapters = ("decoder",) if stage == 1 else ("encoder", "decoder") if trains == "both" else ("encoder",)
        named = {
            name: parameter
            for name, parameter in self.wrapped.named_parameters()
            if any(f".{adapter}." in name for adapter in adapters)
        }
        if "decoder" in adapters or trains == "encoder_marker":
            named["marker"] = self.delta_D
        if stage == 2 and self.slots_KD is not None:
            named["slots"] = self.slots_KD
        if stage == 2 and self.config.latent_gain in ("learned", "linear"):
            named["gain"] = self.factor_D
        self._training = named
        self._require_gradients()
        return named

    @contextmanager
    def adapter(self, name: str) -> Iterator[None]:
        """One adapter on, for forwards. Both may lie in one graph: what trains keeps its gradient.

        peft freezes whatever it switches off, and a leaf that is frozen when backward runs loses its gradient.
        """
        self.wrapped.base_model.set_adapter(name, inference_mode=True)
        self._require_gradients()
        yield

    def recompute_layers(self) -> None:
        """Gradient checkpointing: each layer again in backward, with the adapter on that its forward had."""

        def contexts():
            return nullcontext(), self.adapter(self.wrapped.base_model.active_adapters[0])

        self._recomputes = True
        self.backbone.model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})

    def compile_layers(self) -> None:
        """Forwards with gradient run the layers and the loss compiled; all others run as they are."""
        self.compiles = True
        compile_layers(self.backbone)

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """Around forwards with gradient. Layers are recomputed in training mode only, in which they drop the KV cache
        without an error; nothing here has dropout, so the mode changes nothing else."""
        if self._recomputes:
            self.backbone.model.train()
        yield
        if self._recomputes:
            self.backbone.model.eval()

    def merge_to_generate(self) -> None:
        """Keep a copy of the linear layers' weights with the encoder's adapter added, to generate latents with."""
        self._merged = MergedLayers(self.wrapped, "encoder")

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Around forwards between which no weight changes: merging once does for all of them."""
        if self._merged is not None:
            self._merged.refill()
        self._merged_holds = True
        try:
            yield
        finally:
            self._merged_holds = False

    def generating(self) -> AbstractContextManager[None]:
        """Around forwards of the encoder without gradient, with its adapter on."""
        return self._merged.in_place() if self._merged is not None and self._merged_holds else nullcontext()

    def begin_stage_2(self, chunks: Sequence[np.ndarray]) -> None:
        """What stage 2 starts from: an encoder that is a copy of the decoder, and a gain measured on these chunks."""
        self.copy_decoder_to_encoder()
        self.measure_gain(chunks)

    def copy_decoder_to_encoder(self) -> None:
        tensors = adapter_tensors(self.wrapped)
        copied = {f"encoder.{k.removeprefix('decoder.')}": v for k, v in tensors.items() if k.startswith("decoder.")}
        set_adapter_tensors(self.wrapped, tensors | copied)
        self._require_gradients()

    def measure_gain(self, chunks: Sequence[np.ndarray]) -> None:
        """The gain that `fixed` keeps and `learned` and `linear` start from."""
        self.set_gain(LatentGain())
        if self.config.latent_gain == "linear":
            with self.adapter("decoder"):
                self.set_gain(regress(self.backbone, self.marker_D, self.start_SD, chunks))
        elif self.config.latent_gain != "raw":
            self.set_gain(length_gain(self.backbone, latents_of(self.codec(), chunks)))

    def set_gain(self, first: LatentGain | Regression) -> None:
        """Where a trained factor starts again from one."""
        self.first_gain = first.to(self.base_D)
        self.factor_D.data.fill_(1.0)

    def codec(self, statistics: Statistics | None = None) -> Codec:
        """A codec that shares these weights as they are now."""
        return make_codec(
            self.backbone,
            self.config,
            marker_D=(self.base_D + self.delta_D).detach().cpu(),
            gain=self.gain.detached(),
            statistics=statistics or self.statistics,
            wrapped=self.wrapped,
            slots_KD=None if self.slots_KD is None else self.slots_KD.detach().cpu().clone(),
        )

    def round_off(self) -> None:
        """Adapters and map to what bf16 holds, which halves a codec folder.

        For the end of training: the fp32 masters are gone then."""
        tensors = adapter_tensors(self.wrapped)
        set_adapter_tensors(self.wrapped, {name: _rounded(tensor) for name, tensor in tensors.items()})
        gain = self.gain.detached()
        if gain.map_DD is not None:
            self.set_gain(LatentGain(None, _rounded(gain.map_DD), gain.shift_D))

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that makes this trainee, on the CPU, for a checkpoint."""
        tensors = adapter_tensors(self.wrapped) | {
            "marker": (self.base_D + self.delta_D).detach().cpu(),
            "delta": self.delta_D.detach().cpu().clone(),
            "latent_mean": self.statistics.mean_D,
            "latent_deviation": self.statistics.deviation_D,
        }
        if self.slots_KD is not None:
            tensors["slots"] = self.slots_KD.detach().cpu().clone()
        first = {f"first_{name}": tensor.cpu() for name, tensor in self.first_gain.tensors().items()}
        return tensors | first | {"gain_factor": self.factor_D.detach().cpu().clone()}

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """From a checkpoint's tensors or a codec folder's. An untrained codec has no adapters: they stay fresh."""
        if any(name.startswith("decoder.") for name in tensors):
            set_adapter_tensors(
                self.wrapped, {n: t for n, t in tensors.items() if n.startswith(("decoder.", "encoder."))}
            )
        delta_D = tensors["delta"] if "delta" in tensors else tensors["marker"] - self.base_D.cpu()
        self.delta_D.data.copy_(delta_D)
        if self.config.latent_gain != "raw":
            self.set_gain(_first_gain(tensors))
            self.factor_D.data.copy_(tensors.get("gain_factor", torch.ones_like(self.factor_D)))
        if self.slots_KD is not None and "slots" in tensors:
            self.slots_KD.data.copy_(tensors["slots"])
        self.statistics = Statistics(tensors["latent_mean"], tensors["latent_deviation"], None)
        self._require_gradients()

    def _require_gradients(self) -> None:
        self.wrapped.requires_grad_(False)
        for parameter in (self.delta_D, self.factor_D, self.slots_KD):
            if parameter is not None:
                parameter.requires_grad_(False)
        for parameter in self._training.values():
            parameter.requires_grad_(True)


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.bfloat16().to(tensor.dtype)


def _first_gain(tensors: dict[str, torch.Tensor]) -> LatentGain | Regression:
    """The gain of a checkpoint as it was before its factor, or of a codec folder, whose map is taken apart again."""
    own = {name.removeprefix("first_"): tensor for name, tensor in tensors.items() if name.startswith("first_")}
    if "gain_centre" in own:
        return Regression(own["gain_centre"], own["gain_map"], own["gain_target"])
    gain = LatentGain.of(own or tensors)
    if gain.map_DD is None:
        return gain
    centre_D = tensors["latent_mean"].float().clone()  # a checkpoint holds both
    return Regression(centre_D, gain.map_DD, gain.shift_D + centre_D @ gain.map_DD)
