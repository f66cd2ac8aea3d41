"""NextMem from Python: turn a corpus into a memory bank, search it, recall its texts, hand its latents to a model.

    import nextmem

    nextmem.encode("articles.jsonl", "bank")
    with nextmem.open("bank") as bank:
        for hit in bank.search("how bread rises"):
            print(hit.score, hit.doc_id, hit.text)

Importing this loads neither torch nor Ray; each loads when it is first needed. Nothing is printed unless asked for.
docs/python.md shows the whole interface.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.refusal import Refusal
    from nextmem.bank import Bank, open
    from nextmem.codec import Codec, Memorised
    from nextmem.context import Context
    from nextmem.converting import convert
    from nextmem.creating import create
    from nextmem.encoding import encode
    from nextmem.evaluating import compare, evaluate
    from nextmem.hits import Hit
    from nextmem.latents import Latents
    from nextmem.memory import Memory
    from nextmem.training import train
    from pipeline.bank.lookup import NotInBank
    from pipeline.bank.recall import InexactRecall
    from pipeline.bank.verify import Verdict

__all__ = [
    "Bank", "Codec", "Context", "Hit", "InexactRecall", "Latents", "Memorised", "Memory", "NotInBank", "Refusal",
    "Verdict", "compare", "convert", "create", "encode", "evaluate", "open", "train",
]  # fmt: skip

_HOMES = {
    "model.refusal": ("Refusal",),
    "nextmem.bank": ("Bank", "open"),
    "nextmem.codec": ("Codec", "Memorised"),
    "nextmem.context": ("Context",),
    "nextmem.converting": ("convert",),
    "nextmem.creating": ("create",),
    "nextmem.encoding": ("encode",),
    "nextmem.evaluating": ("compare", "evaluate"),
    "nextmem.hits": ("Hit",),
    "nextmem.latents": ("Latents",),
    "nextmem.memory": ("Memory",),
    "nextmem.training": ("train",),
    "pipeline.bank.lookup": ("NotInBank",),
    "pipeline.bank.recall": ("InexactRecall",),
    "pipeline.bank.verify": ("Verdict",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load what is asked for when it is asked for."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'nextmem' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = found = getattr(importlib.import_module(_HOME_OF[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _load_own(name: str) -> None:
    """Load the package `name` that lies beside this one, whatever else of that name comes first on the path.

    A folder with a model.py or a jobs.py of the user's own would otherwise be taken for ours. ImportError where such a
    module is loaded already.
    """
    folder = Path(__file__).resolve().parents[1] / name
    held = sys.modules.get(name)
    if held is not None:
        if folder in (Path(path).resolve() for path in getattr(held, "__path__", ())):
            return
        where = getattr(held, "__file__", None) or "built in"
        raise ImportError(
            f"a module named {name!r} is loaded already ({where}), and NextMem has a package of that name: "
            "import nextmem before it, or rename it"
        )
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is missing: install nextmem again")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


for _name in ("model", "pipeline", "jobs"):
    _load_own(_name)
