"""The forms that models answer in."""

import unicodedata
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

_SYNONYMS = {"high": "高", "高い": "高", "重要": "高", "medium": "中", "中程度": "中", "low": "低", "低い": "低"}


def _priority(value: object) -> object:
    if not isinstance(value, str):
        return value
    value = unicodedata.normalize("NFKC", value).strip().lower()
    return _SYNONYMS.get(value, value)


class Point(BaseModel):
    """One point of a review or risk of an analysis."""

    issue: str = Field(min_length=1, max_length=2000)
    priority: Annotated[Literal["高", "中", "低"], BeforeValidator(_priority)]
    suggestion: str = Field(default="", max_length=3000)
    citations: list[str] = Field(default_factory=list, max_length=20)


class ReviewedClause(BaseModel):
    """The points of a clause."""

    points: list[Point] = Field(max_length=20)


class FoundRisks(BaseModel):
    """The risks in a part of a document."""

    risks: list[Point] = Field(max_length=20)


class DraftedClause(BaseModel):
    """A clause of a draft."""

    text: str = Field(min_length=1)
    notes: list[str] = Field(default_factory=list, max_length=10)
