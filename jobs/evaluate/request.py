"""What an evaluation is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.evaluate.bootstrap import DRAWS, SEED
from jobs.evaluate.reader import Prompt
from jobs.evaluate.system import Opening
from model.embedded import EMBEDDED
from model.refusal import Refusal

TASKS = ("reconstruct", "retrieve", "answer", "noise", "length", "segments", "rate")
ALL = "all"


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """On the command line or from Python. `out`: a folder for results.json and what was measured; None: nowhere."""

    systems: tuple[str, ...]
    data: tuple[str, ...]
    tasks: tuple[str, ...] = ("reconstruct",)
    sets: tuple[str, ...] = ()  # of the data; none: all
    limit: int | None = 200  # texts, questions and queries of a set; None: all
    out: str | None = None
    opening: Opening = field(default_factory=Opening)
    prompt: Prompt = field(default_factory=Prompt)
    judge: tuple[str, str] | None = None  # the endpoint's base, and the model
    text_column: str = "text"
    tokens: int = 128  # that texts are cut to; fewer where a codec's chunks hold fewer
    min_tokens: int = 32
    actors: int = 0  # Ray actors that share the work; 0: all in this process
    draws: int = DRAWS
    seed: int = SEED
    command: str = ""

    def __post_init__(self):
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown:
            raise Refusal(f"there is no task {unknown[0]!r}: wanted {', '.join(TASKS)}, or {ALL}")
        if not self.data:
            raise Refusal("no data is named: give files or folders with --data (docs/evaluation.md)")
        if self.limit is not None and self.limit < 1:
            raise Refusal(f"the limit is {self.limit}; it must be at least 1")
        if self.actors < 0:
            raise Refusal(f"actors is {self.actors}; it must be 0, or how many Ray actors share the work")
        if "{context}" not in self.prompt.template or "{question}" not in self.prompt.template:
            raise Refusal(f"the prompt {self.prompt.template!r} lacks {{context}} or {{question}}")

    @property
    def backbone(self) -> str:
        """Which the texts are cut by, and which reads."""
        return self.opening.backbone or EMBEDDED
