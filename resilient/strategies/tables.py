"""A table that stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

V_co = TypeVar("V_co", covariant=True)


class Table(Mapping[str, V_co]):
    """A read-only mapping of its own content, which unlike a mapping proxy can be pickled and copied."""

    __slots__ = ("_content",)

    def __init__(self, content: Mapping[str, V_co]) -> None:
        self._content = dict(content)

    def __getitem__(self, key: str) -> V_co:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        return repr(self._content)


def frozen(content: Any, depth: int) -> Any:
    """The tables of a content as such, down to this depth; what is no table stays."""
    if depth == 0 or not isinstance(content, Mapping):
        return content
    return Table({key: frozen(value, depth - 1) for key, value in content.items()})
