"""mem0 keeps its memories in a bank, through its LangChain provider: added, found, changed, forgotten."""

from __future__ import annotations

import pytest

from nextmem.bridges.langchain import NextMemVectorStore

FERRY, BREAD = "The ferry leaves pier 3 at dawn.", "Dough rises because yeast makes gas."


@pytest.fixture
def store(new_bank):
    made = NextMemVectorStore.create(**new_bank, columns={"user_id": str, "agent_id": str, "run_id": str})
    yield made
    made.memory.close()


@pytest.fixture
def mem0(store, tmp_path, monkeypatch):
    """mem0 as it is installed, without a model of its own: texts are kept as they are given (infer=False)."""
    monkeypatch.setenv("MEM0_TELEMETRY", "False")
    monkeypatch.setenv("MEM0_DIR", str(tmp_path / "mem0"))
    monkeypatch.setenv("OPENAI_API_KEY", "none is called")
    from mem0 import Memory

    return Memory.from_config(
        {
            "vector_store": {"provider": "langchain", "config": {"client": store}},
            "embedder": {"provider": "langchain", "config": {"model": store.embeddings}},
            "history_db_path": str(tmp_path / "history.db"),
        }
    )


def test_a_memory_is_added_found_changed_and_forgotten(mem0, store):
    (kept,) = mem0.add(FERRY, user_id="ada", infer=False)["results"]
    mem0.add(BREAD, user_id="ben", infer=False)
    assert store.get_by_ids([kept["id"]])[0].page_content == FERRY

    found = mem0.search(FERRY, filters={"user_id": "ada"}, threshold=0.0)["results"]
    assert [(each["memory"], each["user_id"]) for each in found] == [(FERRY, "ada")]  # and nothing of ben's
    assert found[0]["score"] == pytest.approx(1, abs=0.05)

    mem0.update(kept["id"], FERRY.replace("3", "9"))
    assert mem0.get(kept["id"])["memory"] == FERRY.replace("3", "9")
    assert store.get_by_ids([kept["id"]])[0].page_content == FERRY.replace("3", "9")

    mem0.delete(kept["id"])
    assert mem0.get(kept["id"]) is None
    assert [each["memory"] for each in mem0.search(BREAD, filters={"user_id": "ben"}, threshold=0.0)["results"]] == [
        BREAD
    ]
