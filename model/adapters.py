"""Two LoRA adapters, `encoder` and `decoder`, on one frozen backbone, switched by name; merged with it for inference.

Source: peft's LoRA; rank 16, alpha 32 after the paper. An untrained codec has none: a LoRA whose B is zero is the
backbone itself, so it is left out rather than multiplied.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from model.backbone import Backbone
from model.config import ADAPTERS, CodecConfig

PLAIN = "plain"  # the backbone itself


def add_adapters(backbone: Backbone, config: CodecConfig, names: Sequence[str] = ADAPTERS) -> PeftModel:
    """Wrap the backbone's linear layers in adapters of these names, in its dtype; B is zero: nothing changes yet.

    Returns the PeftModel, which shares the backbone's modules: calls through `backbone.body` pass the adapters too. A
    backbone with adapters therefore serves one codec: ValueError where it has some already.
    """
    if any(isinstance(module, BaseTunerLayer) for module in backbone.model.modules()):
        raise ValueError(f"the backbone {backbone.name} has adapters already; load it again for another codec")
    targets = config.lora_targets if config.lora_targets == "all-linear" else config.lora_targets.split(",")
    lora = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=targets, task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # asked by peft
        wrapped = get_peft_model(backbone.model, lora, adapter_name=names[0], autocast_adapter_dtype=False)
        for name in names[1:]:
            wrapped.add_adapter(name, lora, autocast_adapter_dtype=False)
    wrapped.requires_grad_(False)
    return wrapped


def adapter_layers(wrapped: PeftModel) -> list[BaseTunerLayer]:
    """What `switch_adapter` switches. Kept by who switches often: finding them is most of peft's own `set_adapter`."""
    return [module for module in wrapped.modules() if isinstance(module, BaseTunerLayer)]


def switch_adapter(layers: list[BaseTunerLayer], name: str) -> None:
    """Compute with this adapter from now on, and train neither. 210 layers take 7 ms, peft's `set_adapter` 17."""
    for layer in layers:
        layer.set_adapter(name, inference_mode=True)


class MergedAdapters:
    """Each adapter added to its layers' own weights, rounded once, and taken off the layers themselves.

    A forward then costs what the backbone's alone does, at the memory of a second copy of those layers' weights
    (docs/benchmarks.md). With `keep_plain` of a third: the backbone's own, for `plain`.
    """

    def __init__(self, wrapped: PeftModel, names: Sequence[str] = ADAPTERS, *, keep_plain: bool = False):
        self._weights, self._first = [], names[0]
        for layer in adapter_layers(wrapped):
            own = layer.get_base_layer()
            weights = {name: _summed(own.weight, layer.get_delta_weight(name)) for name in names}
            if keep_plain:
                weights[PLAIN] = own.weight
            self._weights.append((own, weights))
            own.weight = weights[names[0]]  # now, layer by layer: two copies at most are ever held
        wrapped.unload()

    def switch(self, name: str) -> None:
        """Compute with this adapter from now on."""
        for layer, weights in self._weights:
            layer.weight = weights[name]

    def weights(self) -> list[nn.Parameter]:
        """All that is held, switched on or not."""
        return [weight for _, weights in self._weights for weight in weights.values()]

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Compute without any for a while. KeyError where the backbone's own weights were not kept."""
        self.switch(PLAIN)
        try:
            yield
        finally:
            self.switch(self._first)


def _summed(weight: nn.Parameter, delta: torch.Tensor) -> nn.Parameter:
    return nn.Parameter((weight.float() + delta.float()).to(weight.dtype), requires_grad=False)


def adapter_tensors(wrapped: PeftModel, names: Sequence[str] = ADAPTERS) -> dict[str, torch.Tensor]:
    """All adapter weights by `<adapter>.<layer>`, on the CPU."""
    return {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name in names
        for key, tensor in get_peft_model_state_dict(wrapped, adapter_name=name).items()
    }


def set_adapter_tensors(wrapped: PeftModel, tensors: dict[str, torch.Tensor], names: Sequence[str] = ADAPTERS) -> None:
    """The inverse of `adapter_tensors`. Raises ValueError naming what is missing or unknown."""
    for name in names:
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        wanted = set(get_peft_model_state_dict(wrapped, adapter_name=name))
        if set(own) != wanted:
            odd = sorted(set(own) ^ wanted)
            raise ValueError(f"the {name} adapter differs from the backbone's layers in {len(odd)} tensors: {odd[0]}")
        set_peft_model_state_dict(wrapped, own, adapter_name=name)
