"""SQL statements with named parameters."""

import re
from typing import Any

_NAME = re.compile(r"(?<!:):([a-z_]+)")  # not the `::` of a type cast


class Sql:
    """A statement with parameters like `:name`. asyncpg itself has positions ($1, $2 ...) only."""

    def __init__(self, text: str) -> None:
        """Replace each name by a position."""
        self._names = list(dict.fromkeys(_NAME.findall(text)))
        self._text = _NAME.sub(lambda match: f"${self._names.index(match[1]) + 1}", text)

    def __call__(self, **values: Any) -> tuple[Any, ...]:
        """The text and the values in order, for `fetch(*statement(name=value))`. Raises TypeError for other names."""
        if values.keys() != set(self._names):
            raise TypeError(f"expected {sorted(self._names)}, got {sorted(values)}")
        return self._text, *(values[name] for name in self._names)
