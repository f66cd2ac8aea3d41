"""What the first codec of an evaluation comes to, in a few sentences that stand above all tables."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.evaluate.report.tables import Column, mean_of
from jobs.evaluate.results import Figure, Results
from model.default_codec import UNTRAINED


def in_short(results: Results) -> list[str]:
    """Sentences about the first trained codec as a bank stores it; none where there is no codec."""
    stored = [name for name, system in results.systems.items() if (system.get("about") or {}).get("form") == "nf4"]
    stored.sort(key=lambda name: name == UNTRAINED)  # it stands for what training is worth
    return list(_sentences(results, stored[0])) if stored else []


def _sentences(results: Results, name: str) -> Iterator[str]:
    def of(task: str, metric: str, system: str = name, **at: object) -> Figure | None:
        return mean_of(results, system, Column("", task, metric, at))

    f1, whole, patch = (of("reconstruct", metric) for metric in ("f1", "whole", "patch_bytes"))
    if f1 and whole:
        more = f" Exact recall takes {patch.value:.0f} bytes beside it." if patch else ""
        yield f"{name} gives back words with an F1 of {_spanned(f1)} from its memory alone, " + (
            f"and {100 * whole.value:.1f} % of texts whole.{more}"
        )
    found = of("retrieve", "ndcg@10", pool="corpus")
    if found:
        rivals = {other: of("retrieve", "ndcg@10", other, pool="corpus") for other in results.systems if other != name}
        beside = ", ".join(f"{other} {each.value:.3f}" for other, each in rivals.items() if each)
        yield f"Its search has an nDCG@10 of {_spanned(found)} in whole corpora" + (f"; {beside}." if beside else ".")
    decoded, latents, foreign = (of("answer", "gap", **{"from": each}) for each in ("decoded", "latents", "foreign"))
    if decoded:
        yield f"Read by the plain backbone, its decoded text closes {_spanned(decoded)} of the gap to the text" + (
            f", its latents {_spanned(latents)}, another text's latents {_spanned(foreign)}."
            if latents and foreign
            else "."
        )


def _spanned(figure: Figure) -> str:
    span = f" ({figure.low:.3f} to {figure.high:.3f})" if figure.low < figure.high else ""
    return f"{figure.value:.3f}{span}"
