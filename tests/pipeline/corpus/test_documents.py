"""Every record of every format becomes a document, or a rejection that says where, why and what was read."""

import datetime
import gzip
import json
import os
import random

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.corpus.corpus import IGNORED, Corpus, Span, corpus_files
from pipeline.corpus.documents import ColumnRoles, Document, Rejected, document_hash, judge
from pipeline.corpus.ids import TAKEN
from pipeline.corpus.metadata import metadata_fields, settled
from pipeline.corpus.readers import read_span


def records(*paths, columns=None):
    corpus = Corpus(tuple(str(path) for path in paths))
    columns = settled(corpus, columns or ColumnRoles())
    files = [file for file in corpus if file.format != IGNORED]
    return [located.item for file in files for located in read_span(Span(file), columns)]


def documents(*paths, columns=None):
    found = records(*paths, columns=columns)
    assert all(isinstance(item, Document) for item in found), found
    return found


def one_rejected(*paths, columns=None):
    (rejected,) = [item for item in records(*paths, columns=columns) if isinstance(item, Rejected)]
    return rejected


def lines(path, *values):
    path.write_text("".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values))
    return path


def table(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


# Documents


def test_a_document_carries_id_text_hash_place_and_metadata(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"id": 7, "text": "héllo", "year": 1999})

    (document,) = documents(path, columns=ColumnRoles(metadata=("year",)))

    assert document == Document("7", "héllo", document_hash("héllo"), "a.jsonl:1", {"year": 1999})
    assert document.doc_hash == "249a5c7589499a8866064c0d58459744"  # b2sum -l 128


def test_a_text_file_is_one_document_named_by_its_path_from_the_argument_on(tmp_path):
    (tmp_path / "notes/2024").mkdir(parents=True)
    (tmp_path / "notes/2024/a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\n")
    (tmp_path / "notes/b.md.gz").write_bytes(gzip.compress(b"three"))
    (tmp_path / "notes/c.txt.zst").write_bytes(zstandard.compress(b"four"))

    found = documents(tmp_path / "notes")

    assert [(item.doc_id, item.source, item.text) for item in found] == [
        ("notes/2024/a.txt", "notes/2024/a.txt", "one\r\ntwo\n"),
        ("notes/b.md.gz", "notes/b.md.gz", "three"),
        ("notes/c.txt.zst", "notes/c.txt.zst", "four"),
    ]


def test_a_one_word_document_is_a_document(tmp_path):
    assert documents(lines(tmp_path / "a.jsonl", {"text": "x"}))[0].text == "x"


def test_without_an_id_column_the_id_is_the_texts_hash(tmp_path):
    (document,) = documents(table(tmp_path / "a.parquet", text=["hello"]))

    assert document.doc_id == document.doc_hash == document_hash("hello")


def test_a_column_named_id_is_used_unless_told_otherwise(tmp_path):
    jsonl = lines(tmp_path / "a.jsonl", {"id": "x", "key": "k", "text": "one"})
    parquet = table(tmp_path / "b.parquet", id=[5], key=["k"], text=["two"])

    assert [item.doc_id for item in documents(jsonl, parquet)] == ["x", "5"]
    assert [item.doc_id for item in documents(jsonl, parquet, columns=ColumnRoles(id="key"))] == ["k", "k"]
    made = documents(jsonl, parquet, columns=ColumnRoles(id=""))
    assert [item.doc_id for item in made] == [item.doc_hash for item in made]


def test_an_id_with_a_fraction_rejects_its_record_alone(tmp_path):
    path = table(tmp_path / "a.parquet", id=[0.5, 1.0, None, float("nan")], text=["one", "two", "three", "four"])

    assert [item.doc_id for item in records(path)] == [None, "1", None, None]
    assert [item.reason.partition(",")[0] for item in records(path) if isinstance(item, Rejected)] == [
        "id is 0.5",
        "id is null or missing",
        "id is null or missing",
    ]


def test_rows_count_from_0_and_lines_from_1(tmp_path):
    found = documents(
        lines(tmp_path / "a.jsonl", {"text": "1"}, "", {"text": "2"}), table(tmp_path / "b.parquet", text=["3", "4"])
    )

    assert [item.source for item in found] == ["a.jsonl:1", "a.jsonl:3", "b.parquet:0", "b.parquet:1"]


def test_every_way_of_writing_a_string_column_is_read(tmp_path):
    texts = pa.array(["one", "two"])
    kinds = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
    for i, kind in enumerate(kinds):
        table(tmp_path / f"{i}.parquet", text=texts.cast(kind))

    assert [item.text for item in documents(tmp_path)] == ["one", "two"] * 3


def test_compressed_lines_of_several_members_are_read_to_the_end(tmp_path):
    first, second = b'{"text": "1"}\n', b'{"text": "2"}\n{"text": "3"}'
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(first) + gzip.compress(second))
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress(first) + zstandard.compress(second))

    assert [item.text for item in documents(tmp_path)] == ["1", "2", "3"] * 2


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "1"}\r\n{"text": "2"}\r\n')

    assert [item.text for item in documents(tmp_path)] == ["1", "2"]


def test_a_saved_dataset_is_read(tmp_path):
    texts = [f"text {i}" for i in range(2500)]  # more than one of its record batches
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"text": texts, "n": range(2500)}).save_to_disk(tmp_path / "saved")

    found = documents(tmp_path / "saved", columns=ColumnRoles(metadata=("n",)))

    assert [item.text for item in found] == texts
    assert found[2001].source == "saved/data-00000-of-00001.arrow:2001"
    assert found[2001].metadata == {"n": 2001}


# Rejections


@pytest.mark.parametrize(
    ("line", "doc_id", "reason", "excerpt"),
    [
        ("{bad", None, "malformed JSON", "{bad"),
        ("[1, 2]", None, "line is a list: wanted an object", "[1, 2]"),
        ("3", None, "line is a number: wanted an object", "3"),
        ('{"id": "x"}', "x", "column 'text' is missing; found id", '{"id": "x"}'),
        ('{"id": "x", "text": null}', "x", "text is null or missing", ""),
        ('{"id": "x", "text": 5}', "x", "text is a number: wanted a string", "5"),
        ('{"id": "x", "text": ["a"]}', "x", "text is a list: wanted a string", "['a']"),
        ('{"id": "x", "text": ""}', "x", "text is empty or only white space", ""),
        ('{"id": "x", "text": " \\n\\t"}', "x", "text is empty or only white space", " \n\t"),
        ('{"id": "x", "text": "\\ud800"}', "x", "lone surrogate at character 0", "\\ud800"),
        ('{"id": null, "text": "t"}', None, "id is null or missing", "t"),
        ('{"text": "t"}', None, "id is null or missing", "t"),
        (
            '{"id": 1.5, "text": "t"}',
            None,
            "id is 1.5, and a float is taken only where it is whole and exact: wanted " + TAKEN,
            "t",
        ),
        ('{"id": true, "text": "t"}', None, "id is a boolean: wanted " + TAKEN, "t"),
        ('{"id": " ", "text": "t"}', None, "id is empty", "t"),
        ('{"id": "\\ud800", "text": "t"}', None, "id is not valid Unicode", "t"),
        ("[" * 100_000, None, "nested too deeply", "[" * 200),
        (
            '{"id": "x", "text": 1' + "0" * 5000 + "}",
            None,
            "malformed JSON: Exceeds the limit",
            '{"id": "x", "text": 1',
        ),
    ],
)
def test_a_bad_line_is_rejected_alone(tmp_path, line, doc_id, reason, excerpt):
    path = lines(tmp_path / "a.jsonl", {"id": "good", "text": "g"}, line, {"id": "better", "text": "b"})

    before, rejected, after = records(path)

    assert (before.doc_id, after.doc_id) == ("good", "better")
    assert (rejected.source, rejected.doc_id) == ("a.jsonl:2", doc_id)
    assert reason in rejected.reason
    assert rejected.excerpt.startswith(excerpt) and len(rejected.excerpt) <= 200


def test_a_line_that_is_not_utf8_is_rejected_with_its_bytes(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "good"}\n{"text": "\xff\xfe"}\n')

    rejected = one_rejected(tmp_path / "a.jsonl")

    assert (rejected.source, rejected.reason) == ("a.jsonl:2", "line is not valid UTF-8 at byte 10")
    assert rejected.excerpt == '{"text": "\\xff\\xfe"}\n'


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"caf\xe9", "text is not valid UTF-8 at byte 3"), (b"", "text is empty"), (b" \n", "text is empty")],
)
def test_a_bad_text_file_is_rejected_under_its_name(tmp_path, content, reason):
    (tmp_path / "a.txt").write_bytes(content)

    rejected = one_rejected(tmp_path / "a.txt")

    assert (rejected.source, rejected.doc_id) == ("a.txt", "a.txt")
    assert rejected.reason.startswith(reason)


def test_bad_rows_of_a_table_are_rejected_alone(tmp_path):
    path = table(tmp_path / "a.parquet", id=["a", None, "c", "d"], text=["1", "2", None, " "])

    good, *bad = records(path)

    assert good.doc_id == "a"
    assert [(item.source, item.doc_id, item.reason) for item in bad] == [
        ("a.parquet:1", None, "id is null or missing"),
        ("a.parquet:2", "c", "text is null or missing"),
        ("a.parquet:3", "d", "text is empty or only white space"),
    ]


def test_a_row_that_is_not_utf8_is_rejected_alone(tmp_path):
    raw = pa.array([b"good", b"\xff", b"fine"], pa.binary())
    broken = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    path = table(tmp_path / "a.parquet", text=broken)

    good, rejected, fine = records(path)

    assert (good.text, fine.text) == ("good", "fine")
    assert (rejected.source, rejected.reason, rejected.excerpt) == (
        "a.parquet:1",
        "text is not valid UTF-8",
        "\\xff",
    )


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"body": ["x"]}, "column 'text' is missing; found body"),
        ({"text": [1]}, "column 'text' is int64: wanted a string"),
        ({"text": [["x"]]}, "column 'text' is list<element: string>: wanted a string"),
    ],
)
def test_a_table_without_a_usable_text_column_is_rejected_as_a_file(tmp_path, columns, reason):
    table(tmp_path / "bad.parquet", **columns)
    table(tmp_path / "good.parquet", text=["x"])

    rejected = one_rejected(tmp_path)

    assert (rejected.source.split("/")[1], rejected.reason) == ("bad.parquet", reason)


def test_a_torn_parquet_file_is_rejected_and_the_others_are_read(tmp_path):
    whole = table(tmp_path / "b.parquet", text=["x"] * 100).read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-10])
    (tmp_path / "c.parquet").write_bytes(b"")

    found = records(tmp_path)

    rejected = [item for item in found if isinstance(item, Rejected)]
    assert len(found) == 102
    assert [item.source.split("/")[1] for item in rejected] == ["a.parquet", "c.parquet"]
    assert all(item.reason.startswith("not a readable parquet file") for item in rejected)


def test_of_a_parquet_file_with_one_damaged_row_group_the_others_are_kept(tmp_path):
    path = tmp_path / "a.parquet"
    texts = [f"{i:05d} " + os.urandom(50).hex() for i in range(300)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=100, compression="snappy", use_dictionary=False)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start + 60 : start + 4000] = b"\xff" * 3940
    path.write_bytes(content)

    found = records(path)

    rejected = [item for item in found if isinstance(item, Rejected)]
    assert [(item.source, item.reason.partition(":")[0]) for item in rejected] == [
        ("a.parquet:100-199", "damaged data")
    ]
    assert [item.text for item in found if isinstance(item, Document)] == texts[:100] + texts[200:]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_of_a_torn_packed_file_the_whole_lines_are_kept_and_the_rest_is_one_rejection(tmp_path, ending):
    content = b"".join(b'{"text": "%d %s"}\n' % (i, os.urandom(500).hex().encode()) for i in range(2000))
    packed = gzip.compress(content, 1) if ending == ".gz" else zstandard.compress(content, 1)
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(packed[: len(packed) // 2])

    *kept, rejected = records(path)

    assert 500 < len(kept) < 1500
    assert [int(item.text.split()[0]) for item in kept] == list(range(len(kept)))
    assert rejected.source == f"a.jsonl{ending}:{len(kept) + 1}"
    assert rejected.reason.startswith("the file is torn here")


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_torn_packed_text_file_is_rejected(tmp_path, ending):
    content = os.urandom(100_000).hex().encode()
    packed = gzip.compress(content) if ending == ".gz" else zstandard.compress(content)
    (tmp_path / f"a.txt{ending}").write_bytes(packed[:-100])

    assert one_rejected(tmp_path / f"a.txt{ending}").reason.startswith("the file is torn")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.txt.gz", "a.txt.zst", "a.parquet", "a.arrow"])
def test_a_file_that_is_not_what_its_name_says_is_rejected(tmp_path, name):
    (tmp_path / name).write_bytes(b"this is something else entirely")

    assert one_rejected(tmp_path / name).source.startswith(name)


def test_a_torn_arrow_file_keeps_its_whole_batches(tmp_path):
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(2500)]}).save_to_disk(tmp_path / "saved")
    path = tmp_path / "saved/data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:-5000])

    *kept, rejected = records(tmp_path / "saved")

    assert len(kept) == 2000
    assert rejected.source.endswith(":2000-2000") and rejected.reason.startswith("damaged data")


def test_random_bytes_never_end_a_job(tmp_path):
    """Whatever a JSONL file holds, every line that is not blank is a document or a rejection."""
    chance = random.Random(0)
    alphabet = [b'{"text": "', b'"}', b"\n", b"\xff", b"\x00", b"[", b"\\ud8", b"1e999", b" ", b"NaN", b'"id":']
    for trial in range(50):
        content = b'{"text": "lines, then"}\n' + b"".join(chance.choices(alphabet, k=200))
        (tmp_path / f"{trial}.jsonl").write_bytes(content)
        found = records(tmp_path / f"{trial}.jsonl", columns=ColumnRoles(id=""))
        assert len(found) == sum(1 for line in content.split(b"\n") if line.strip())
        assert all(isinstance(item, Document | Rejected) for item in found)


# Columns


def test_metadata_takes_its_types_from_tables(tmp_path):
    when = datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)
    path = table(
        tmp_path / "a.parquet",
        text=["x"],
        small=pa.array([200], pa.uint8()),
        when=pa.array([when], pa.timestamp("ns", tz="Europe/Paris")),
        kind=pa.array(["k"]).dictionary_encode(),
        tags=pa.array([["a", "b"]]),
    )
    columns = ColumnRoles(metadata=("small", "when", "kind", "tags"))

    fields = metadata_fields(Corpus((str(path),)), columns)
    (document,) = documents(path, columns=columns)

    assert [field.type for field in fields] == [
        pa.int16(),
        pa.timestamp("us", tz="UTC"),
        pa.string(),
        pa.list_(pa.string()),
    ]
    assert document.metadata == {"small": 200, "when": when, "kind": "k", "tags": ["a", "b"]}


def test_metadata_of_lines_gets_the_type_of_its_values(tmp_path):
    path = lines(
        tmp_path / "a.jsonl",
        {"text": "x", "flag": True, "n": 1, "score": 1, "name": None},
        {"text": "y", "flag": None, "n": 2, "score": 0.5, "name": "b"},
    )
    columns = ColumnRoles(metadata=("flag", "n", "score", "name"))

    fields = metadata_fields(Corpus((str(path),)), columns)

    assert [field.type for field in fields] == [pa.bool_(), pa.int64(), pa.float64(), pa.string()]
    assert [item.metadata for item in documents(path, columns=columns)] == [
        {"flag": True, "n": 1, "score": 1.0, "name": None},
        {"flag": None, "n": 2, "score": 0.5, "name": "b"},
    ]


def test_a_column_that_first_appears_far_down_is_found(tmp_path):
    path = lines(tmp_path / "a.jsonl", *[{"text": str(i)} for i in range(1500)], {"text": "z", "n": 3})

    assert documents(path, columns=ColumnRoles(metadata=("n",)))[-1].metadata == {"n": 3}


@pytest.mark.parametrize("value", ["text", True, [1], 1 << 63, {"a": 1}])
def test_a_value_that_does_not_fit_rejects_its_record(tmp_path, value):
    good = [{"text": "x", "n": 1}] * 1000  # beyond the lines that are looked at for types
    path = lines(tmp_path / "a.jsonl", *good, {"text": "y", "n": value})

    rejected = one_rejected(path, columns=ColumnRoles(metadata=("n",)))

    assert rejected.source == "a.jsonl:1001"
    assert rejected.reason.startswith("column 'n': ") and rejected.reason.endswith("does not fit int64")


def test_an_unsigned_value_beyond_a_signed_column_rejects_its_row(tmp_path):
    path = table(tmp_path / "a.parquet", text=["x", "y"], n=pa.array([1, (1 << 64) - 1], pa.uint64()))

    assert one_rejected(path, columns=ColumnRoles(metadata=("n",))).source == "a.parquet:1"


def test_a_file_without_a_metadata_column_gives_nulls(tmp_path):
    jsonl, parquet = lines(tmp_path / "a.jsonl", {"text": "x", "n": 1}), table(tmp_path / "b.parquet", text=["y"])
    (tmp_path / "c.txt").write_text("z")

    found = documents(jsonl, parquet, tmp_path / "c.txt", columns=ColumnRoles(metadata=("n",)))

    assert [item.metadata for item in found] == [{"n": 1}, {"n": None}, {"n": None}]


def test_a_column_that_folders_name_can_be_metadata(tmp_path):
    for year, place in (("2023", "a%2Fb"), ("2024", "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / f"year={year}" / f"place={place}"
        folder.mkdir(parents=True)
        table(folder / "a.parquet", text=["table"])
        lines(folder / "b.jsonl", {"text": "line"}, {"text": "line of its own", "place": "here"})
        (folder / "c.txt").write_text("text")

    found = documents(tmp_path, columns=ColumnRoles(metadata=("year", "place")))

    found = [(item.metadata["year"], item.metadata["place"]) for item in found]
    assert found[:4] == [("2023", "a/b"), ("2023", "a/b"), ("2023", "here"), ("2023", "a/b")]
    assert found[4:] == [("2024", None), ("2024", None), ("2024", "here"), ("2024", None)]


def test_a_partition_and_a_column_of_another_type_do_not_mix(tmp_path):
    (tmp_path / "year=2023").mkdir()
    table(tmp_path / "year=2023/a.parquet", text=["x"])
    table(tmp_path / "b.parquet", text=["y"], year=[2024])

    with pytest.raises(ValueError, match=r"column 'year' is int64 in .*make them one type"):
        records(tmp_path, columns=ColumnRoles(metadata=("year",)))


def test_nanoseconds_are_cut_off(tmp_path):
    path = table(tmp_path / "a.parquet", text=["x"], when=pa.array([1_000_001_999], pa.timestamp("ns")))

    (document,) = documents(path, columns=ColumnRoles(metadata=("when",)))

    assert document.metadata == {"when": datetime.datetime(1970, 1, 1, 0, 0, 1, 1)}


def test_a_table_with_a_column_twice_is_rejected_as_a_file(tmp_path):
    pq.write_table(pa.table([["a"], ["b"]], ["text", "text"]), tmp_path / "a.parquet")

    assert one_rejected(tmp_path).reason == "column 'text' stands there 2 times; found text, text"


def test_numbers_of_different_widths_are_widened(tmp_path):
    table(tmp_path / "a.parquet", text=["x"], n=pa.array([1], pa.int32()), f=pa.array([1], pa.int64()))
    table(tmp_path / "b.parquet", text=["y"], n=pa.array([2], pa.int64()), f=pa.array([0.5], pa.float32()))

    fields = metadata_fields(Corpus((str(tmp_path),)), ColumnRoles(metadata=("n", "f")))

    assert [field.type for field in fields] == [pa.int64(), pa.float64()]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (ColumnRoles(text="body"), "no file has a column 'body'; found text, n, when. Name one by --text-column"),
        (ColumnRoles(id="key"), "no file has a column 'key'; found text, n, when. Name one by --id-column"),
        (ColumnRoles(metadata=("nope",)), "no file has the metadata column 'nope'; found text, n, when"),
        (
            ColumnRoles(metadata=("n",)),
            "column 'n' is int64 in .*a.parquet but string in .*b.jsonl: make them one type",
        ),
        (ColumnRoles(metadata=("when",)), r"column 'when' is time64\[us\] in .*a.parquet, which a bank cannot hold"),
    ],
)
def test_a_mistake_about_columns_is_one_clear_line(tmp_path, columns, says):
    table(tmp_path / "a.parquet", text=["x"], n=[1], when=pa.array([datetime.time(1)]))
    lines(tmp_path / "b.jsonl", {"text": "x", "n": "one"})

    with pytest.raises(ValueError, match=says):
        metadata_fields(Corpus((str(tmp_path),)), columns)


def test_lists_in_lines_cannot_be_metadata(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"text": "x", "tags": ["a"]})

    with pytest.raises(ValueError, match=r"column 'tags' holds a list in a.jsonl: wanted strings, numbers or booleans"):
        metadata_fields(Corpus((str(path),)), ColumnRoles(metadata=("tags",)))


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (("chunk_id",), "column 'chunk_id' cannot be metadata: a bank has a column of that name"),
        (("Text",), "column 'Text' cannot be metadata"),
        (("a", "A"), "metadata column 'a' is named twice"),
    ],
)
def test_a_metadata_column_must_have_a_name_of_its_own(metadata, says):
    with pytest.raises(ValueError, match=says):
        ColumnRoles(metadata=metadata)


def test_a_file_without_permission_is_an_error_and_no_rejection(tmp_path):
    """A rejection would be remembered as done; a permission is mended and the command run again."""
    path = table(tmp_path / "a.parquet", text=["x"])
    (file,) = corpus_files([str(path)])
    path.unlink()
    path.mkdir()  # opening a folder fails as opening a forbidden file does, for root too

    with pytest.raises(OSError, match=r"a.parquet"):
        list(read_span(Span(file), ColumnRoles()))


def test_judging_takes_any_python_value():
    for text in (None, 1, 1.5, [], {}, b"x", "", "x", object()):
        for raw_id in (None, 1, True, 1.5, [], b"x", "", "x"):
            item = judge(text, raw_id, {}, "here:1")
            assert isinstance(item, Document) == (text == "x" and raw_id in ("x", 1) and raw_id is not True)
