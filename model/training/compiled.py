"""Decoder layers through torch.compile, for forwards with gradient only.

Each layer by itself: all layers share one compiled form, in tens of seconds, where the whole body takes many minutes.
Without gradient (generating latents, decoding) shapes change with every step, and layers run as they are.
"""

from __future__ import annotations

import torch

from model.backbone import Backbone
from model.refusal import Refusal

NO_COMPILER = "compile_layers needs a C++ compiler and found none: install g++, or leave compile_layers out"

FORMS = 64  # compiled forms of one layer: two adapters times the shapes of a run, before shapes become symbols


def compile_layers(backbone: Backbone) -> None:
    """In place. Chunk lengths that vary cost a few more compilations, after which any length will do.

    Raises ValueError where a CPU's code would be compiled and there is no compiler.
    """
    if backbone.device.type == "cpu" and not _has_compiler():
        raise Refusal(NO_COMPILER)
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, FORMS)
    for layer in backbone.body.layers:
        layer.forward = _with_gradient(layer.forward)


def _with_gradient(forward):
    compiled = torch.compile(forward)

    def chosen(*arguments, **named):
        return (compiled if torch.is_grad_enabled() else forward)(*arguments, **named)

    return chosen


def _has_compiler() -> bool:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return bool(get_cpp_compiler())
    except InvalidCxxCompiler:
        return False
