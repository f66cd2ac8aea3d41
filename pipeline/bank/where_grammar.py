"""The words of a filter: what `--where` may say, as a grammar, and a text as the tree that it says.

Lark parses it: its grammar can be read as it stands, and an error knows what would have fitted at that place.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from model.refusal import Refusal

if TYPE_CHECKING:
    from lark import Lark, Token, Tree
    from lark.exceptions import UnexpectedInput

KEYWORDS = ("and", "or", "not", "in", "like", "between", "is", "null")
BARE = r"""(?:[^\s'"(),=<>!]|!(?!=))"""  # what a name or a value without quotes is made of
GRAMMAR = rf"""
?start: either
?either: both ("or"i both)*
?both: part ("and"i part)*
?part: "not"i part -> opposite
     | "(" either ")"
     | column COMPARED value -> compared
     | column [NOT] "in"i "(" value ("," value)* ")" -> among
     | column [NOT] "like"i value -> like
     | column [NOT] "between"i value "and"i value -> between
     | column "is"i [NOT] "null"i -> empty

column: NAME | NAMED
value: QUOTED | NAMED | WORD+

COMPARED: "<=" | ">=" | "!=" | "<>" | "==" | "=" | "<" | ">"
NOT: "not"i
NAME: /(?!(?:{"|".join(KEYWORDS)})(?!{BARE})){BARE}+/i
WORD: /(?!(?:{"|".join(KEYWORDS)})(?!{BARE})){BARE}+/i
NAMED: /"(?:[^"]|"")*"/
QUOTED: /'(?:[^']|'')*'/

%ignore /\s+/
"""
OPERATORS = "=, !=, <, <=, >, >=, in, like, between or is"
WANTED = {  # by a terminal that would have fitted, the telling ones first
    "COMPARED": OPERATORS,
    "NAME": "a column's name",
    "WORD": "a value",
    "IN": "in, like or between",
    "LPAR": "a list in parentheses",
    "NULL": "null",
}
ENDS = {"AND": "and", "OR": "or", "RPAR": "`)`", "COMMA": "a comma", "$END": "the end"}


def parsed(text: str) -> Tree:
    """The tree of a filter. Its nodes are named in GRAMMAR; tokens know where they stand (`start_pos`, from 0).

    Raises Refusal that says at which character what was found and what was wanted.
    """
    from lark.exceptions import UnexpectedInput  # 60 ms that a command without a filter need not spend

    try:
        return _parser().parse(text)
    except UnexpectedInput as error:
        raise refusal(text, *_found_and_wanted(text, error)) from None


def refusal(text: str, at: int, said: str) -> Refusal:
    """Of something at one place of the filter, the first character being 1."""
    return Refusal(f"filter {text!r}: {said} (at character {at + 1})")


def column_name(column: Tree) -> Token:
    """A column's name without the double quotes around it."""
    (name,) = column.children
    return name.update(value=_unquoted(name)) if name.type == "NAMED" else name


def value_text(value: Tree, text: str) -> Token:
    """A value without quotes; words that stand without any are one text, with the spaces between them as they are."""
    first, last = value.children[0], value.children[-1]
    return first.update(value=_unquoted(first) if first.type != "WORD" else text[first.start_pos : last.end_pos])


def _unquoted(token: Token) -> str:
    quote = token[0]
    return token[1:-1].replace(2 * quote, quote)


@functools.cache
def _parser() -> Lark:
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr", maybe_placeholders=True)


def _found_and_wanted(text: str, error: UnexpectedInput) -> tuple[int, str]:
    from lark.exceptions import UnexpectedCharacters

    if isinstance(error, UnexpectedCharacters):
        at = error.pos_in_stream
        unclosed = text[at] in "'\""
        return at, f"the quote {text[at]} is not closed" if unclosed else f"{text[at]!r} can't stand here"
    token, fitting = error.token, error.accepts or error.expected
    found = f"found {str(token)!r}" if token.type != "$END" else "it ends"
    at = len(text) if token.type == "$END" else token.start_pos
    if token.type == "NULL" and "WORD" in fitting:
        return at, "nothing equals null: say `is null` or `is not null`"
    wanted = next((words for name, words in WANTED.items() if name in fitting), None)
    ends = [words for name, words in ENDS.items() if name in fitting]
    if wanted is None or "AND" in fitting:
        wanted = " or ".join(filter(None, [", ".join(ends[:-1]), ends[-1]]))
    quotable = "WORD" in fitting and token.type != "$END"
    hint = "; a text with such signs or words in it goes in quotes" if quotable else ""
    return at, f"{found} where {wanted} was wanted{hint}"
