"""How near a draft is to its text: figures from 0 to 1, an item at a time.

BLEU, chrF, ROUGE and edit similarity are those of the libraries that others cite (sacrebleu, rouge-score, rapidfuzz);
BLEU and chrF are of one text at a time, so that their mean can be resampled, and are divided by 100.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from model.reconstruction import names_and_numbers, word_f1
from model.refusal import Refusal

INSTALL = "pip install 'nextmem[evaluate]'"


def compared(text: str, drafted: str) -> dict[str, float | None]:
    """By metric; None where the text gives a metric nothing to count. Refusal where a library is missing."""
    return {
        "f1": word_f1(text, drafted),
        **_rouge(text, drafted),
        "bleu": _bleu().sentence_score(drafted, [text]).score / 100,
        "chrf": _chrf().sentence_score(drafted, [text]).score / 100,
        "edit": _edit()(text, drafted),
        "whole": float(text == drafted),
        "names": names_and_numbers(text, drafted),
        **({"meteor": _meteor()(text, drafted)} if absent_meteor() is None else {}),
    }


def absent_meteor() -> str | None:
    """Why there is no METEOR here; None where there is. It needs WordNet, which nltk fetches apart from itself."""
    try:
        from nltk.corpus import wordnet

        wordnet.synsets("text")
    except ImportError:
        return f"METEOR needs nltk: {INSTALL}"
    except LookupError:
        return "METEOR needs WordNet's data: python -m nltk.downloader wordnet"
    return None


ABSENT_BERTSCORE = "BERTScore needs a model of its own (roberta-large), which no package index holds"


def _rouge(text: str, drafted: str) -> dict[str, float]:
    return {name: score.fmeasure for name, score in _rouge_scorer().score(text, drafted).items()}


@cache
def _rouge_scorer():
    return _library("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rougeL"], use_stemmer=False)


@cache
def _bleu():
    return _library("sacrebleu.metrics").BLEU(effective_order=True)  # else a short text without a 4-gram is 0


@cache
def _chrf():
    return _library("sacrebleu.metrics").CHRF()


@cache
def _edit() -> Callable[[str, str], float]:
    return _library("rapidfuzz.distance").Levenshtein.normalized_similarity


@cache
def _meteor() -> Callable[[str, str], float]:
    from nltk.translate.meteor_score import meteor_score

    return lambda text, drafted: meteor_score([text.split()], drafted.split())


def _library(name: str):
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Refusal(f"evaluating needs the package {(error.name or name).partition('.')[0]}: {INSTALL}") from None
