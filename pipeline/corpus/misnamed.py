"""What a file of lines or of text is in truth, told from how it begins, so that a mistake is said once and not a line.

wide      "this is UTF-16: ..."          a Windows editor's "Unicode"
no_lines  "this is a JSON array: ..."    json.dump(rows, file), with or without indentation
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE

LOOKED_AT = 1 << 16  # bytes
FEW = 4  # bytes that tell nothing yet


def wide(start: bytes) -> str | None:
    """Why text that begins so is not UTF-8, if it is UTF-16 or UTF-32, with a byte order mark or without."""
    if start.startswith((BOM_UTF32_LE, BOM_UTF32_BE)):
        return _said("UTF-32")
    even, odd = start[::2].count(0), start[1::2].count(0)
    marked = start.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    halves = min(even, odd) == 0 and max(even, odd) > len(start) // 4 and len(start) >= FEW
    return _said("UTF-16") if marked or halves else None


def no_lines(start: bytes) -> str | None:
    """Why a file that begins so holds no JSON Lines: wide text, an array, or one value over many lines."""
    fault = wide(start)
    text = start.removeprefix(BOM_UTF8).lstrip()
    if fault is not None or text[:1] not in (b"[", b"{"):
        return fault
    line, _, rest = text.partition(b"\n")
    whole = sum(map(_is_object, rest.splitlines())) if _is_unfinished(line) else 0
    if text[:1] == b"[" and (_holds_objects(text) or (_is_unfinished(line) and whole <= 1)):  # the last has no comma
        return "this is a JSON array: wanted one object a line (jq -c '.[]' makes them)"
    if text[:1] == b"{" and rest.strip() and _is_unfinished(line) and not whole:
        return "this is a JSON object over several lines: wanted one object a line (jq -c . makes them)"
    return None


def holds_records(start: bytes, column: str) -> bool:
    """Whether a .json file that begins so is one of records: lines with the text column, or an array of objects.

    Most other .json files are somebody's settings.
    """
    text = start.removeprefix(BOM_UTF8).lstrip()
    line, ended, _ = text.partition(b"\n")
    if text[:1] != b"{" or wide(start):
        return no_lines(start) is not None
    if not ended and len(start) == LOOKED_AT:
        return json.dumps(column).encode() in line
    found = _value(line)
    return isinstance(found, dict) and column in found


def _said(encoding: str) -> str:
    return f"this is {encoding}: wanted UTF-8 (iconv -f {encoding} -t UTF-8 makes it)"


def _is_unfinished(line: bytes) -> bool:
    """Whether a JSON value goes on after this line, between two of its parts."""
    try:
        json.loads(line)
    except UnicodeDecodeError:
        return False
    except json.JSONDecodeError as error:
        return error.pos >= len(line.decode().rstrip()) and not error.msg.startswith("Unterminated")
    except RecursionError:
        return False
    return False


def _is_object(line: bytes) -> bool:
    return isinstance(_value(line), dict)


def _holds_objects(text: bytes) -> bool:
    found = _value(text)
    return isinstance(found, list) and any(isinstance(each, dict) for each in found)


def _value(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
