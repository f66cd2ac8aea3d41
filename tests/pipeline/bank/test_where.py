"""What a filter says is what SQL says, and files that it rules out are not opened."""

from __future__ import annotations

import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from banks import IDENTITY, receipt, rows

from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.upkeep import compact
from pipeline.bank.where import rows_where
from pipeline.schema import metadata_of

ROWS = pa.table(
    {
        "id": range(6),
        "year": pa.array([1999, 2000, 2020, None, 2021, None], pa.int32()),
        "lang": ["en", "de", None, "fr", "en", None],
        "title": ["List of dogs", "Lists", "A list of", None, "O'Brien, 100%", "List\nof"],
        "score": pa.array([0.5, None, -1.0, 1000.0, 0.25, 0.0], pa.float32()),
        "kept": [True, False, None, True, None, False],
        "day": [datetime.date(2020, 1, day) for day in range(1, 6)] + [None],
        "seen": pa.array([datetime.datetime(2020, 1, day) for day in range(1, 6)] + [None], pa.timestamp("us")),
        "price": pa.array([1, 2, None, 4, 5, 6], pa.decimal128(8, 2)),
        "first name": ["a", "b", "c", None, "e", "f"],
        "meta": [{"lang": "en"}, {"lang": None}, None, {"lang": "de"}, {"lang": "en"}, None],
        "tags": [["a"], [], None, ["b"], ["c"], None],
        "raw": [b"a", None, b"c", b"d", b"e", b"f"],
    }
)
ZONED = pa.schema([("at", pa.timestamp("us", tz="UTC")), ("clock", pa.time64("us"))])


def chosen(*conditions):
    return ROWS.filter(rows_where(conditions, ROWS.schema))["id"].to_pylist()


def by_sql(condition):
    with duckdb.connect() as sql:
        sql.register("shown", ROWS)
        return [id for (id,) in sql.sql(f"SELECT id FROM shown WHERE {condition} ORDER BY id").fetchall()]


@pytest.mark.parametrize(
    "condition",
    [
        "year >= 2020 and lang in ('en', 'de') and not title like 'List of%' and kept is null",
        "year = 2000", "year == 2000", "year != 2000", "year <> 2000", "year < 2020", "year <= 2020", "year > 2020",
        "not year = 2000", "not year != 2000", "not year < 2020", "not year <= 2020", "not year > 2020",
        "not year >= 2020", "not (year > 1999 and lang = 'en')", "not (year > 2000 or lang = 'de')",
        "not not year > 2000", "not (not (year > 2000 or lang is null) and kept = true)",
        "year > 2000 or lang = 'de' and kept = false", "(year > 2000 or lang = 'de') and kept = false",
        "lang in ('en')", "lang not in ('en', 'de')", "not lang in ('en')", "not lang not in ('en')",
        "year in (1999, 2021)", "year not in (1999)", "year between 2000 and 2020 and lang = 'de'",
        "year not between 2000 and 2020", "not year between 2000 and 2020", "not year not between 2000 and 2020",
        "title like 'List%'", "title like '%of'", "title like 'List_of'", "title not like 'List%'",
        "not title not like '%list%'", "title like '%'", "title like '_ist%'", "title = 'O''Brien, 100%'",
        "title like 'List of dogs'", "lang is null", "lang is not null", "not lang is null", "not lang is not null",
        "score > 0.3", "score = 1e3", "score <= -1", "kept = true", "kept != true", "not kept = false",
        "day >= '2020-01-03'", "day between '2020-01-02' and '2020-01-03'", "seen < '2020-01-03 00:00:01'",
        "seen = '2020-01-02'", "price <= 4.00", "\"first name\" = 'a'", "\"first name\" is null", "meta.lang = 'en'",
        "meta.lang is null", "meta is null", "tags is not null", "raw is null",
        "year>=2020 AND NOT lang IS NULL OR year IN(1999)",
    ],
)  # fmt: skip
def test_a_filter_chooses_what_sql_chooses(condition):
    assert chosen(condition) == by_sql(condition)


@pytest.mark.parametrize(
    ("condition", "same"),
    [
        ("title = List of dogs", "title = 'List of dogs'"),
        ('lang = "en"', "lang = 'en'"),
        ("day>=2020-01-03", "day >= '2020-01-03'"),
        ("seen < 2020-01-03T00:00:01", "seen < '2020-01-03 00:00:01'"),
        ("lang in (en, de)", "lang in ('en', 'de')"),
        ("title like List%", "title like 'List%'"),
        ("year='2020'", "year = 2020"),
        ("kept = TRUE", "kept = true"),
    ],
)
def test_quotes_may_be_left_out_or_double(condition, same):
    assert chosen(condition) == chosen(same) != []


def test_a_backslash_takes_a_sign_of_a_pattern_for_itself():
    assert chosen(r"title like '%100\%'") == [4] and chosen(r"title like '%1\_0%'") == []


def test_a_word_that_only_begins_like_one_of_ours_is_a_value():
    schema = pa.schema([("land", pa.string()), ("order", pa.string())])
    held = pa.table({"land": ["oregon", "india"], "order": ["notable", "nullary"]})
    assert held.filter(rows_where(["land = oregon or order = nullary"], schema)).num_rows == 2


def test_several_conditions_hold_together_and_none_is_no_filter():
    assert chosen("year >= 2000", "lang = en") == [4]
    assert rows_where([], ROWS.schema) is None


def test_a_time_without_a_zone_is_utc_where_the_column_has_one():
    table = pa.table(
        {"at": [datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.UTC)], "clock": [datetime.time(9, 30)]}, ZONED
    )
    for condition in ("at = '2020-01-01 12:00'", "at = 2020-01-01T13:00:00+01:00", "at > 2020-01-01", "clock < 09:31"):
        assert table.filter(rows_where([condition], ZONED)).num_rows == 1, condition
    assert table.filter(rows_where(["at < 2020-01-01T12:00:00"], ZONED)).num_rows == 0


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("year", "it ends where =, !=, <, <=, >, >=, in, like, between or is was wanted (at character 5)"),
        ("year >=", "it ends where a value was wanted (at character 8)"),
        (
            "year >= and lang = en",
            "found 'and' where a value was wanted; a text with such signs or words in it goes in",
        ),
        ("year = 1 and", "it ends where a column's name was wanted (at character 13)"),
        ("", "it ends where a column's name was wanted (at character 1)"),
        ("(year = 1", "it ends where `)` was wanted (at character 10)"),
        ("year = 1)", "found ')' where the end was wanted (at character 9)"),
        ("year = 1 lang = en", "found '=' where and, or or the end was wanted"),
        (
            "lang = What (not) to say",
            "found '(' where and, or or the end was wanted; a text with such signs or words in",
        ),
        ("lang in en", "found 'en' where a list in parentheses was wanted (at character 9)"),
        ("lang in ()", "found ')' where a value was wanted"),
        ("lang in ('a' 'b')", "found \"'b'\" where `)` or a comma was wanted (at character 14)"),
        ("lang = 'en", "the quote ' is not closed (at character 8)"),
        ("lang = null", "nothing equals null: say `is null` or `is not null` (at character 8)"),
        ("year is 3", "found '3' where null was wanted (at character 9)"),
        ("colour = red", "the bank has no column 'colour' to filter by; it has id, year, lang,"),
        ("meta.colour = red", "the bank has no column 'meta.colour' to filter by"),
        ("lang.x = red", "the bank has no column 'lang.x' to filter by"),
        ("lang = en or year = many", "'many' is no value of the column year, which is int32 (at character 21)"),
        ("year = 2020.5", "'2020.5' is no value of the column year, which is int32"),
        ("year in (1, x)", "'x' is no value of the column year"),
        ("kept = perhaps", "'perhaps' is no value of the column kept, which is bool"),
        ("day = soon", "'soon' is no value of the column day, which is date32[day]"),
        ("seen = soon", "'soon' is no value of the column seen, which is timestamp[us]"),
        ("seen = 2020-01-01T00:00:00Z", "is no value of the column seen, which is timestamp[us]"),
        ("year like '2%'", "year is int32, and only a text is like another (at character 1)"),
        ("raw = a", "raw is binary, of which only `is null` can be asked (at character 1)"),
        ("tags = a", "of which only `is null` can be asked (at character 1)"),
        ("meta = a", "of which only `is null` can be asked; a field of it is NAME.FIELD"),
        (" ".join(["not"] * 5000) + " year = 1", "it is nested too deep to be read"),
    ],
)
def test_what_means_nothing_is_refused_with_its_place(condition, said):
    with pytest.raises(ValueError) as refused:
        rows_where([condition], ROWS.schema)
    assert said in str(refused.value) and "\n" not in str(refused.value)


METADATA = {
    "year": lambda n: 2000 + n,
    "lang": lambda n: ["en", "de", "fr"][n],
    "day": lambda n: datetime.date(2000 + n, 5, 1),
    "at": lambda n: datetime.datetime(2000 + n, 5, 1, 12, 30, 1, 234567, tzinfo=datetime.UTC),
    "note": lambda n: None if n < 2 else "x",
}


@pytest.fixture
def bank(tmp_path):
    """Three files of two rows, each of one year, one language and one day."""
    own = [{name: [value(n)] * 2 for name, value in METADATA.items()} for n in range(3)]
    schema = rows("u", {"d": 2}, **own[2]).schema
    bank = Bank.create(tmp_path / "bank", IDENTITY, metadata_of(schema))
    for n, columns in enumerate(own):
        table = rows(f"u{n}", {f"d{n}": 2})
        for field in metadata_of(schema):
            table = table.append_column(field, pa.array(columns[field.name], field.type))
        commit(bank, [Receipt(f"u{n}", tuple(bank.writer().write(f"u{n}", table)), 1, 2, 14)])
    return bank


ONE_FILE = [
    "year >= 2002",
    "not year < 2002",
    "year in (2002, 2005)",
    "year > 2001 and lang = fr",
    "lang = fr",
    "lang like 'f%'",
    "day > 2001-12-31",
    "at >= 2002-05-01T12:30:01.234567",
    "doc_id = d2",
    "note is not null",
]


@pytest.mark.parametrize("condition", ONE_FILE)
def test_files_that_cannot_match_are_not_opened(bank, condition):
    """They are not even there."""
    for name in bank.files():
        if not name.startswith("part-u2-"):
            Path(f"{bank.folder.uri}/{name}").unlink()
    found = [batch.to_pylist() for batch in bank.rows(["doc_id"], rows_where([condition], bank.schema))]
    assert found == [[{"doc_id": "d2"}, {"doc_id": "d2"}]]
    with pytest.raises(FileNotFoundError):
        list(bank.rows(["doc_id"]))


def test_joined_files_say_no_less_than_they_hold(bank):
    """delta-rs cuts the microseconds off the largest time that it notes of a file."""
    assert compact(bank) == 3
    for condition in ONE_FILE:
        found = [batch.num_rows for batch in bank.rows(["doc_id"], rows_where([condition], bank.schema))]
        assert found == [2], condition


@pytest.mark.parametrize("condition", ["year > 2002", "day < 2000-05-01", "at > 2003-01-01", "encoded_at < 2020-01-01"])
def test_joined_files_are_passed_over_by_numbers_dates_and_times(bank, condition):
    compact(bank)
    assert list(bank.dataset().get_fragments(rows_where([condition], bank.schema))) == []


def test_a_long_text_is_cut_in_the_log_and_found_all_the_same(tmp_path):
    texts = [f"{word} ".ljust(10_000, letter) for word, letter in (("abacus", "a"), ("zebra", "z"))]
    fields = metadata_of(rows("u", {"d": 2}, body=texts).schema)
    bank = Bank.create(tmp_path / "bank", IDENTITY, fields)
    commit(bank, [receipt(bank, f"u{n}", {f"d{n}": 2}, body=texts) for n in range(2)])
    assert compact(bank) == 2
    assert all(path.stat().st_size < 10_000 for path in (tmp_path / "bank/_delta_log").glob("*.json"))
    for condition in (f"body = '{texts[1]}'", f"body >= '{texts[1]}'", f"body <= '{texts[0]}'", "body like 'zebra%'"):
        assert [batch.num_rows for batch in bank.rows(["doc_id"], rows_where([condition], bank.schema))] == [2]
    for condition in ("body > 'zebrb'", "body like 'b%' and body > 'zz'", "body < a"):
        assert list(bank.dataset().get_fragments(rows_where([condition], bank.schema))) == []
