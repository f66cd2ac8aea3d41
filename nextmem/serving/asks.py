"""What a request's body may be, as pydantic models: they check it, and OpenAPI describes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_K = 100  # hits, ids of one request
MOST_QUERY = 20_000  # characters
MOST_TOKENS = 32_768

Name = Annotated[str, Field(min_length=1, max_length=1000)]
Query = Annotated[str, Field(min_length=1, max_length=MOST_QUERY, description="What to look for.")]
Count = Annotated[int, Field(ge=1, le=MOST_K)]
Rows = Annotated[
    str | dict[str, Any] | None,
    Field(description='Which rows: `year >= 2020 and lang in (en, de)`, or {"lang": ["en", "de"]}.'),
]


class Ask(BaseModel):
    """A request of one bank. A field of another name is refused, so that a typing error is seen."""

    model_config = ConfigDict(extra="forbid")


class Search(Ask):
    """The chunks that answer the query best."""

    query: Query
    k: Count = 5
    filter: Rows = None
    text: bool = Field(default=True, description="Recall each hit's exact text.")


class Context(Ask):
    """What fits into a budget of context positions, as exact text."""

    query: Query
    tokens: int = Field(default=1000, ge=1, le=MOST_TOKENS)
    k: Count | None = None
    filter: Rows = None


class Recall(Ask):
    """The exact text of one chunk, or of one document."""

    chunk_id: Name | None = None
    doc_id: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> Recall:
        if (self.chunk_id is None) == (self.doc_id is None):
            raise ValueError("give one of chunk_id and doc_id")
        return self


class Latents(Ask):
    """The latents of chunks, as safetensors."""

    chunk_ids: list[Name] = Field(min_length=1, max_length=MOST_K)
    as_: Literal["embeds", "values"] = Field(
        default="embeds", alias="as", description="embeds: for the backbone's inputs_embeds; values: as stored."
    )


class Remember(Ask):
    """A document to put in. `update`: a document of that id takes the new text."""

    text: str = Field(min_length=1)
    doc_id: Name | None = None
    update: bool = False
    columns: dict[str, Any] = Field(default_factory=dict, description="Values of the bank's own columns.")

    @model_validator(mode="after")
    def _named(self) -> Remember:
        if self.update and self.doc_id is None:
            raise ValueError("an update needs the doc_id of what it replaces")
        return self


class Forget(Ask):
    """Documents to take out for good."""

    doc_ids: list[Name] = Field(min_length=1, max_length=1000)


class Edit(Ask):
    """Replace a text that stands once in a chunk."""

    chunk_id: Name
    old: str = Field(min_length=1)
    new: str


READS: tuple[type[Ask], ...] = (Search, Context, Recall, Latents)
WRITES: tuple[type[Ask], ...] = (Remember, Forget, Edit)
