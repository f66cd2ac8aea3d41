"""The data of an evaluation: sets of texts, of questions about texts, and of queries over a corpus.

A folder holds, for a set NAME, any of these as Parquet or JSONL (docs/evaluation.md has the columns):

    eval_NAME.parquet         id, question, answers, text; perhaps gold_passage_ids, extra: texts, and questions on them
    passages_NAME.parquet     text; perhaps id: texts alone
    retrieval_NAME/           corpus, queries, qrels: what to search, and what should be found

Any other file with a text column is a set of texts, too. Texts are cut to one chunk here, so that every system gets
the same ones. Nothing is left out without being counted.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jobs.evaluate.hub import PREFIX, fetched
from jobs.evaluate.tables import TABLES, is_table, name_of, rows_of
from model.refusal import Missing, Refusal
from model.tokens import TextTokenizer

CORPUS_A_QUESTION = 10  # passages of a limited corpus for each question of the limit


@dataclass(frozen=True, slots=True)
class Text:
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A question whose whole text is one chunk."""

    id: str
    question: str
    answers: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """`pool`: ids of the passages that belong to this question alone, those to be found among them; None: not known."""

    id: str
    question: str
    gold: frozenset[str]
    pool: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class EvalSet:
    """`left_out` counts by reason. `of_corpus`: passages before a limit cut them."""

    name: str
    texts: tuple[Text, ...] = ()
    asked: tuple[Asked, ...] = ()
    queries: tuple[Query, ...] = ()
    corpus: tuple[Text, ...] = ()
    of_corpus: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    def sizes(self) -> dict:
        pools = sum(query.pool is not None for query in self.queries)
        return {
            "texts": len(self.texts),
            "questions": len(self.asked),
            "queries": len(self.queries),
            "with_pool": pools,
            "corpus": len(self.corpus),
            "of_corpus": self.of_corpus,
            "left_out": self.left_out,
        }


@dataclass(frozen=True, slots=True)
class Cut:
    """How texts are cut: to `tokens` of this tokenizer; those under `least` are no texts to give back."""

    tokenizer: TextTokenizer
    tokens: int = 128
    least: int = 32
    text_column: str = "text"

    def first(self, text: str, tokens: int | None = None) -> str:
        """The text's first chunk; a slice that would be more tokens by itself is cut shorter."""
        limit = wanted = tokens or self.tokens
        while wanted > 0:
            chunk = next(self.tokenizer.chunks(text, wanted), None)
            if chunk is None:
                return ""
            if len(self.tokenizer.encode(text[: chunk.char_end])) <= limit:
                return text[: chunk.char_end]
            wanted -= 1
        return ""

    def count(self, text: str) -> int:
        return len(self.tokenizer.encode(text))


def find_sets(paths: Sequence[str], wanted: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Files and retrieval folders by set, in order of names. Missing for a path, or a wanted set, that is not there."""
    found: dict[str, list[Path]] = {}
    for path in (fetched(p.removeprefix(PREFIX)) if p.startswith(PREFIX) else Path(p) for p in paths):
        if path.is_dir():
            inner = sorted(p for p in path.iterdir() if is_table(p) or (p.is_dir() and p.name.startswith("retrieval_")))
            inner = inner or sorted(p for p in path.rglob("*") if is_table(p))
        else:
            inner = [path] if path.is_file() else sorted(Path().glob(str(path))) if not path.is_absolute() else []
        if not inner:
            raise Missing(
                f"no sets at {path}: wanted {', '.join(TABLES)} files, or a folder of them (docs/evaluation.md)"
            )
        for each in inner:
            found.setdefault(name_of(each), []).append(each)
    unknown = [name for name in wanted if name not in found]
    if unknown:
        raise Missing(f"there is no set {unknown[0]!r} in {', '.join(paths)}; there are {', '.join(found)}")
    return {name: files for name, files in sorted(found.items()) if not wanted or name in wanted}


def load_set(name: str, files: Sequence[Path], cut: Cut, limit: int | None, *, seed: int = 0) -> EvalSet:
    """A set's first `limit` texts and questions, and its first `limit` queries over ten times as many passages."""
    left: dict[str, int] = {}
    rows = [row for file in files if not file.is_dir() for row in rows_of(file)]
    if rows and cut.text_column not in rows[0]:
        raise Refusal(f"{files[0]} has no column {cut.text_column!r}; it has {', '.join(rows[0])}: --text-column NAME")
    folder = next((file for file in files if file.is_dir()), None)
    queries, corpus, of_corpus = (), (), 0
    if folder is not None:
        queries, corpus, of_corpus = _retrieval(folder, rows, limit, seed, left)
    texts = tuple(_texts(rows, cut, limit, left))
    asked = tuple(_first(_asked(rows, cut, left), limit))
    return EvalSet(name, texts, asked, queries, corpus, of_corpus, left)


def mixed(sets: Sequence[EvalSet], limit: int | None) -> EvalSet:
    """Texts of all sets in turn, for the analyses: at most `limit`."""
    turns = max((len(each.texts) for each in sets), default=0)
    mix = [Text(f"{s.name}/{s.texts[i].id}", s.texts[i].text) for i in range(turns) for s in sets if i < len(s.texts)]
    return EvalSet("mixed", tuple(mix[:limit]))


def _texts(rows: Iterable[dict], cut: Cut, limit: int | None, left: dict[str, int]) -> Iterable[Text]:
    """Different texts that are long enough, cut."""
    seen: set[str] = set()
    for place, row in enumerate(rows):
        if limit is not None and len(seen) >= limit:
            return
        text = row.get(cut.text_column)
        if not isinstance(text, str) or not text.strip():
            _count(left, "without text")
            continue
        text = cut.first(text)
        if text in seen:
            continue
        if cut.count(text) < cut.least:
            _count(left, f"texts under {cut.least} tokens")
            continue
        seen.add(text)
        yield Text(str(row.get("id", place)), text)


def _asked(rows: Iterable[dict], cut: Cut, left: dict[str, int]) -> Iterable[Asked]:
    for place, row in enumerate(rows):
        text, question, answers = row.get(cut.text_column), row.get("question"), row.get("answers") or []
        if question is None or not isinstance(text, str) or not text.strip():
            continue
        answers = tuple(answer.strip() for answer in answers if isinstance(answer, str) and answer.strip())
        if not answers:
            _count(left, "questions without an answer")
        elif cut.count(text) > cut.tokens:
            _count(left, "questions on more than one chunk")
        else:
            yield Asked(str(row.get("id", place)), question, answers, text)


def _first(items: Iterable, limit: int | None) -> Iterable:
    for place, item in enumerate(items):
        if place == limit:
            return
        yield item


def _retrieval(
    folder: Path, rows: Sequence[dict], limit: int | None, seed: int, left: dict[str, int]
) -> tuple[tuple[Query, ...], tuple[Text, ...], int]:
    passages = {str(row["id"]): row for row in _table(folder, "corpus", ("id", "text"))}
    gold: dict[str, set[str]] = {}
    for row in _table(folder, "qrels", ("query_id", "passage_id")):
        if row.get("score", 1) > 0:
            gold.setdefault(str(row["query_id"]), set()).add(str(row["passage_id"]))
    pools = _pools(rows, passages)
    queries: list[Query] = []
    for row in _table(folder, "queries", ("id", "question")):
        name = str(row["id"])
        known = gold.get(name, set()) & passages.keys()
        if not known:
            _count(left, "queries without a gold passage in the corpus")
        elif len(queries) != limit:
            queries.append(Query(name, row["question"], frozenset(known), pools(row, known)))
    if not queries:
        raise Refusal(f"{folder} has no query with a gold passage in its corpus: its qrels name none of them")
    if limit is not None:
        queries = _few_pools(queries, CORPUS_A_QUESTION * limit, left)
    kept = passages if limit is None else _limited(passages, queries, limit, seed)
    return tuple(queries), tuple(Text(i, passages[i]["text"]) for i in kept), len(passages)


def _pools(rows: Sequence[dict], passages: dict[str, dict]) -> Callable[[dict, set[str]], tuple[str, ...] | None]:
    """Which passages belong to a question: as its row says, by sessions that it names, or by one group with it."""
    extras = {str(row["id"]): json.loads(row["extra"]) for row in rows if row.get("extra") and row.get("id")}
    groups: dict[str, list[str]] = {}
    for name, row in passages.items():
        groups.setdefault(row.get("group") or "", []).append(name)

    def pool(query: dict, gold: set[str]) -> tuple[str, ...] | None:
        extra = extras.get(str(query["id"]), {})
        named = query.get("pool") or extra.get("context_passage_ids")
        sessions = extra.get("answer_session_ids") or ([query["group"]] if query.get("group") else [])
        found = named or [name for session in sessions for name in groups.get(session, ())]
        found = tuple(dict.fromkeys(name for name in found if name in passages))
        return found if gold <= set(found) and len(found) > len(gold) else None  # all gold: nothing to tell apart

    return pool


def _few_pools(queries: Sequence[Query], room: int, left: dict[str, int]) -> list[Query]:
    """Pools in the order of queries as long as they need `room` passages at most; later queries lose theirs."""
    needed: set[str] = set()
    kept = []
    for query in queries:
        if query.pool and len(needed | set(query.pool)) > room:
            _count(left, "pools past the limit")
            query = replace(query, pool=None)
        needed |= set(query.pool or ())
        kept.append(query)
    return kept


def _limited(passages: dict[str, dict], queries: Sequence[Query], limit: int, seed: int) -> list[str]:
    """What the questions need, and others drawn with a seed, CORPUS_A_QUESTION a question; in the corpus's order."""
    needed = {name for query in queries for name in (*query.gold, *(query.pool or ()))}
    others = sorted(passages.keys() - needed)
    random.Random(seed).shuffle(others)
    needed |= set(others[: max(0, CORPUS_A_QUESTION * limit - len(needed))])
    return [name for name in passages if name in needed]


def _table(folder: Path, name: str, columns: Sequence[str]) -> list[dict]:
    file = next((path for suffix in TABLES if (path := folder / f"{name}{suffix}").is_file()), None)
    if file is None:
        raise Missing(
            f"{folder} has no {name}{TABLES[0]} (or {', '.join(TABLES[1:])}): wanted corpus, queries and qrels"
        )
    rows = rows_of(file)
    lacking = [column for column in columns if rows and column not in rows[0]]
    if not rows or lacking:
        raise Refusal(f"{file} has {'no column ' + repr(lacking[0]) if lacking else 'no rows'}: docs/evaluation.md")
    return rows


def _count(left: dict[str, int], why: str) -> None:
    left[why] = left.get(why, 0) + 1
