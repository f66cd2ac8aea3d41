"""Which precision a device gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.precision import default_precision

INTEL = "processor\t: 0\nflags\t\t: fpu sse avx512f avx512_bf16 amx_tile\n"
OLD_INTEL = "processor\t: 0\nmodel name\t: bf16\nflags\t\t: fpu sse avx512f\nbugs\t\t: amx_bf16\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16 sve\n"


@pytest.mark.parametrize(("text", "precision"), [(INTEL, "bf16"), (OLD_INTEL, "fp32"), (ARM, "bf16"), ("", "fp32")])
def test_a_cpu_gets_bf16_where_it_multiplies_it_in_hardware(monkeypatch, text, precision):
    monkeypatch.setattr(Path, "read_text", lambda path: text)
    assert default_precision("cpu") == precision


def test_a_cpu_that_tells_nothing_gets_fp32(monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    assert default_precision("cpu") == "fp32"


def test_a_gpu_gets_bf16():
    assert default_precision("cuda") == default_precision("cuda:1") == "bf16"
