"""Packages that only some uses of NextMem need, and how to install them."""

from __future__ import annotations

import importlib

from model.refusal import Unavailable


def need(extra: str, *modules: str) -> None:
    """Raises Unavailable, which says what to install, where a module of an optional extra is not there."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != module.partition(".")[0]:
                raise
            raise Unavailable(f"{module} is not installed: pip install 'nextmem[{extra}]'") from None
