"""What is trained: two adapters, the marker and the gain over one frozen backbone.

Shapes: D hidden width. Adapters are held in the backbone's dtype, marker and gain in float32; the optimizer keeps
float32 masters of all of it (model/optimizer.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from model.adapters import adapter_tensors, add_adapters, set_adapter_tensors
from model.backbone import Backbone
from model.checkpoint import make_codec
from model.codec import Codec, Statistics
from model.config import CodecConfig
from model.latents import decoder_start
from model.sharding import shard_layers
from model.untrained import base_marker, latents_of, length_gain


class Trainee:
    """A codec in the making. `gain_D` is None where latents are fed back raw; else set when stage 2 begins.

    `shard_on`: a device; each worker of the group then holds a share of the frozen layers there.
    """

    def __init__(self, backbone: Backbone, config: CodecConfig, *, seed: int = 0, shard_on: str | None = None):
        self.backbone, self.config = backbone, config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.wrapped = add_adapters(backbone, config)
        if shard_on is not None:
            shard_layers(backbone, shard_on)
        self.base_D = base_marker(backbone, config.marker_word).to(backbone.device)
        self.delta_D = nn.Parameter(torch.zeros_like(self.base_D), requires_grad=False)
        self.start_SD = decoder_start(backbone, config.decoder_start)
        self.first_gain_D = None if config.latent_gain == "raw" else torch.ones_like(self.base_D)
        self.factor_D = nn.Parameter(torch.ones_like(self.base_D), requires_grad=False)
        self.statistics = Statistics(torch.zeros(backbone.width), torch.ones(backbone.width), None)
        self._training: dict[str, nn.Parameter] = {}
        self._recomputes = False

    @property
    def marker_D(self) -> torch.Tensor:  # noqa: N802
        """The start-of-decode marker in the backbone's dtype: a frozen word's embedding plus what is learned."""
        return (self.base_D + self.delta_D).to(self.backbone.dtype)

    @property
    def gain_D(self) -> torch.Tensor | None:  # noqa: N802
        """The gain that stage 2 began with times a factor that trains: the gain itself is far smaller than an adapter's
        weights, so its own gradient would drown theirs when the norm is held."""
        return None if self.first_gain_D is None else self.first_gain_D * self.factor_D

    def train(self, stage: int, trains: str) -> dict[str, nn.Parameter]:
        """Choose what trains, by name: decoder adapter and marker in stage 1; in stage 2 the encoder adapter, a learned
        gain, and with `trains="both"` all of it."""
        adapters = ("decoder",) if stage == 1 else ("encoder", "decoder") if trains == "both" else ("encoder",)
        named = {
            name: parameter
            for name, parameter in self.wrapped.named_parameters()
            if any(f".{adapter}." in name for adapter in adapters)
        }
        if "decoder" in adapters:
            named["marker"] = self.delta_D
        if stage == 2 and self.config.latent_gain == "learned":
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

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """Around forwards with gradient. Layers are recomputed in training mode only, in which they drop the KV cache
        without an error; nothing here has dropout, so the mode changes nothing else."""
        if self._recomputes:
            self.backbone.model.train()
        yield
        if self._recomputes:
            self.backbone.model.eval()

    def copy_decoder_to_encoder(self) -> None:
        """How stage 2 begins."""
        tensors = adapter_tensors(self.wrapped)
        copied = {f"encoder.{k.removeprefix('decoder.')}": v for k, v in tensors.items() if k.startswith("decoder.")}
        set_adapter_tensors(self.wrapped, tensors | copied)
        self._require_gradients()

    def measure_gain(self, chunks) -> None:
        """Give a latent an input embedding's length: the gain that `fixed` keeps and `learned` starts from."""
        if self.first_gain_D is not None:
            self.set_gain(torch.ones_like(self.base_D))
            self.set_gain(length_gain(self.backbone, latents_of(self.codec(), chunks)))

    def set_gain(self, gain_D: torch.Tensor) -> None:
        """Where a trained factor starts again from one."""
        self.first_gain_D = gain_D.to(self.base_D)
        self.factor_D.data.fill_(1.0)

    def codec(self, statistics: Statistics | None = None) -> Codec:
        """A codec that shares these weights as they are now."""
        return make_codec(
            self.backbone,
            self.config,
            marker_D=(self.base_D + self.delta_D).detach().cpu(),
            gain_D=None if self.gain_D is None else self.gain_D.detach().cpu().clone(),
            statistics=statistics or self.statistics,
            wrapped=self.wrapped,
        )

    def round_adapters(self) -> None:
        """To what bf16 holds, which halves a codec folder. For the end of training: the fp32 masters are gone then."""
        tensors = adapter_tensors(self.wrapped)
        set_adapter_tensors(
            self.wrapped, {name: tensor.bfloat16().to(tensor.dtype) for name, tensor in tensors.items()}
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that makes this trainee, on the CPU, for a checkpoint."""
        tensors = adapter_tensors(self.wrapped) | {
            "marker": (self.base_D + self.delta_D).detach().cpu(),
            "delta": self.delta_D.detach().cpu().clone(),
            "latent_mean": self.statistics.mean_D,
            "latent_deviation": self.statistics.deviation_D,
        }
        if self.first_gain_D is not None:
            tensors |= {"gain": self.first_gain_D.cpu(), "gain_factor": self.factor_D.detach().cpu().clone()}
        return tensors

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """From a checkpoint's tensors or a codec folder's. An untrained codec has no adapters: they stay fresh."""
        if any(name.startswith("decoder.") for name in tensors):
            set_adapter_tensors(
                self.wrapped, {n: t for n, t in tensors.items() if n.startswith(("decoder.", "encoder."))}
            )
        delta_D = tensors["delta"] if "delta" in tensors else tensors["marker"] - self.base_D.cpu()
        self.delta_D.data.copy_(delta_D)
        if self.first_gain_D is not None and "gain" in tensors:
            self.set_gain(tensors["gain"])
            self.factor_D.data.copy_(tensors.get("gain_factor", torch.ones_like(self.factor_D)))
        self.statistics = Statistics(tensors["latent_mean"], tensors["latent_deviation"], None)
        self._require_gradients()

    def _require_gradients(self) -> None:
        self.wrapped.requires_grad_(False)
        for parameter in (self.delta_D, self.factor_D):
            parameter.requires_grad_(False)
        for parameter in self._training.values():
            parameter.requires_grad_(True)
