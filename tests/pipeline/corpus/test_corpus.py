"""CORPUS arguments become an ordered list of files, or one clear line that says what is wrong."""

import json

import datasets
import pyarrow as pa
import pytest

from pipeline.corpus.corpus import IGNORED, corpus_files


@pytest.fixture
def corpus(tmp_path):
    for name in ("data/b.jsonl", "data/2023/a.txt", "data/2023/x.png", "data/2024/a.txt", "data/.hidden/h.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "data/_temporary").mkdir()
    (tmp_path / "data/_temporary/t.txt").write_text("x")
    return tmp_path


def named(*arguments):
    return [file.name for file in corpus_files([str(argument) for argument in arguments]) if file.format != IGNORED]


def test_a_folder_gives_its_readable_files_in_order_from_its_own_name_on(corpus):
    assert named(corpus / "data") == ["data/2023/a.txt", "data/2024/a.txt", "data/b.jsonl"]


def test_a_file_of_another_format_in_a_folder_is_listed_as_ignored(corpus):
    ignored = [file.name for file in corpus_files([str(corpus / "data")]) if file.format == IGNORED]

    assert ignored == ["data/2023/x.png", "data/.hidden/", "data/_temporary/"]


def test_a_glob_names_files_as_a_shell_would(corpus):
    assert named(corpus / "data/*/a.txt") == ["2023/a.txt", "2024/a.txt"]
    assert named(corpus / "data/*.jsonl") == ["b.jsonl"]
    assert named(corpus / "data/202[34]") == ["2023/a.txt", "2024/a.txt"]
    assert named(corpus / "data/**/*.txt") == ["2023/a.txt", "2024/a.txt"]
    assert named(corpus / "**/a.txt") == ["data/2023/a.txt", "data/2024/a.txt"]


def test_arguments_keep_their_order(corpus):
    assert named(corpus / "data/b.jsonl", corpus / "data/2023") == ["b.jsonl", "2023/a.txt"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.parquet", ("parquet", "")),
        ("a.JSONL", ("jsonl", "")),
        ("a.json-lines", ("jsonl", "")),
        ("a.ndjson.gz", ("jsonl", ".gz")),
        ("a.txt.zst", ("text", ".zst")),
        ("a.md", ("text", "")),
        ("a.parquet.gz", ("ignored", "")),
        (".a.txt", ("ignored", "")),
    ],
)
def test_the_ending_says_the_format(corpus, name, kind):
    (corpus / "one").mkdir()
    (corpus / "one" / name).write_text("x")
    (corpus / "one/z.txt").write_text("x")

    file = next(iter(corpus_files([str(corpus / "one")])))

    assert (file.name, (file.format, file.compression)) == (f"one/{name}", kind)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ([], ValueError, "no corpus was given"),
        (["data/missing.txt"], FileNotFoundError, "data/missing.txt does not exist: give a file, a folder, a glob"),
        (["data/*.parquet"], FileNotFoundError, r"data/\*.parquet holds nothing that can be read: found no file"),
        (["nowhere/*.txt"], FileNotFoundError, r"nowhere/\*.txt holds nothing"),
        (["empty"], FileNotFoundError, "empty holds nothing that can be read: found no file, wanted .parquet"),
        (["pictures"], FileNotFoundError, "found 1 files of other formats"),
        (["data/2023/x.png"], ValueError, "x.png is no format that can be read: wanted .parquet"),
        (
            ["data/2023/a.txt", "data/2024/a.txt"],
            ValueError,
            "have the same name, a.txt.*give the folder that holds both",
        ),
        (["data", "data/2023"], ValueError, "data/2023 and .*data overlap"),
        (["data/2023", "data"], ValueError, "data and .*data/2023 overlap"),
        (["data", "data"], ValueError, "overlap: files would be read twice"),
    ],
)
def test_a_mistake_is_one_clear_line(corpus, arguments, error, says):
    (corpus / "empty").mkdir()
    (corpus / "pictures").mkdir()
    (corpus / "pictures/x.png").write_text("x")

    with pytest.raises(error, match=says) as caught:
        named(*(corpus / argument for argument in arguments))

    assert "\n" not in str(caught.value)


def test_a_file_name_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / b"\xff.txt".decode("utf-8", "surrogateescape")).write_text("x")

    with pytest.raises(ValueError, match=r"\\xff.txt' is not UTF-8: rename"):
        named(tmp_path)


def test_a_saved_dataset_gives_its_data_files_and_not_the_caches_beside_them(tmp_path):
    datasets.DatasetDict(
        train=datasets.Dataset.from_dict({"text": ["a", "b"]}), test=datasets.Dataset.from_dict({"text": ["c"]})
    ).save_to_disk(tmp_path / "saved")
    with pa.OSFile(str(tmp_path / "saved/train/cache-123.arrow"), "wb") as file:
        file.write(b"left by map()")

    files = named(tmp_path / "saved")

    assert files == ["saved/test/data-00000-of-00001.arrow", "saved/train/data-00000-of-00001.arrow"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A dataset repository in a local folder: the same loader, no network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    (tmp_path / "repo").mkdir()
    for split, texts in {"train": ["a", "b"], "test": ["c"]}.items():
        (tmp_path / f"repo/{split}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return f"hf:{tmp_path}/repo"


def test_a_hub_dataset_gives_the_arrow_files_of_its_splits(hub):
    assert [file.format for file in corpus_files([hub])] == ["arrow", "arrow"]
    (test,) = corpus_files([f"{hub}::test"])
    assert test.name.endswith("repo/test/repo-test.arrow")


@pytest.mark.parametrize(
    ("suffix", "says"),
    [
        ("::dev", "there is no split 'dev'; found train, test"),
        ("::train[:1]", r"there is no split 'train\[:1\]'.*Slices are not taken"),
        (":nope", "could not be loaded: BuilderConfig 'nope' not found"),
    ],
)
def test_a_hub_dataset_that_is_not_there_is_one_clear_line(hub, suffix, says):
    with pytest.raises(ValueError, match=says) as caught:
        list(corpus_files([hub + suffix]))

    assert "\n" not in str(caught.value)
