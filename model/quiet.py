"""Libraries say nothing and show no bar while they load for us. A caller's own settings come back after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def no_bars(library: ModuleType) -> Iterator[None]:
    """Without the bars of `datasets` or `huggingface_hub.utils`."""
    if library.are_progress_bars_disabled():
        yield
        return
    library.disable_progress_bars()
    try:
        yield
    finally:
        library.enable_progress_bars()


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without what transformers says below an error, and without its bars."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
