"""Libraries are quiet while they load for us, and a caller's own settings come back."""

from __future__ import annotations

import pytest
from huggingface_hub import utils
from transformers.utils import logging

from model.backbone import load_backbone
from model.quiet import no_bars, quiet_loading


@pytest.fixture(params=[True, False], ids=["bars", "none"])
def callers(request):
    """A caller's own settings, put back after the test."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_info()
    (logging.enable_progress_bar if request.param else logging.disable_progress_bar)()
    yield request.param
    logging.set_verbosity(level)
    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()


def settings():
    return logging.get_verbosity(), logging.is_progress_bar_enabled(), not utils.are_progress_bars_disabled()


def test_transformers_is_quiet_inside_and_as_before_after_an_error_too(callers):
    before = settings()
    with pytest.raises(OSError, match="disk"), quiet_loading():
        assert settings() == (logging.ERROR, False, False)
        raise OSError("disk")
    assert settings() == before == (logging.INFO, callers, callers)


def test_the_hubs_bars_come_back_where_there_were_any(callers):
    with no_bars(utils):
        assert utils.are_progress_bars_disabled()
    assert utils.are_progress_bars_disabled() is not callers


def test_loading_a_backbone_prints_nothing_and_changes_no_setting(callers, tmp_path, capfd):
    tiny = load_backbone("tiny-llama", precision="fp32", device="cpu")
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save(tmp_path / "tokenizer.json")
    before = settings()
    capfd.readouterr()
    load_backbone(str(tmp_path), precision="fp32", device="cpu")
    assert capfd.readouterr() == ("", "") and settings() == before
