"""The WHERE clause of a list: only the conditions that a request has."""

from typing import Any


class Values:
    """The values of a statement, in the order of their placeholders."""

    def __init__(self) -> None:
        """Start without values."""
        self.all: list[Any] = []

    def add(self, value: Any) -> str:
        """Add a value and return its placeholder: "$1", "$2" ..."""
        self.all.append(value)
        return f"${len(self.all)}"


class Where:
    """Conditions joined by AND, with the values they compare.

    One statement with `$1 IS NULL OR ...` would serve all requests, but PostgreSQL would plan it again for every call:
    with the values known, most of it can be dropped, so a generic plan never looks cheaper. A statement for each
    combination of conditions is planned once.
    """

    def __init__(self) -> None:
        """Start without conditions."""
        self.values: list[Any] = []
        self._conditions: list[str] = []

    def add(self, condition: str, *values: Any) -> None:
        """Add `condition`, which has {0}, {1} ... where its values belong."""
        self._conditions.append(condition.format(*map(self.place, values)))

    def place(self, value: Any) -> str:
        """Add a value and return its placeholder: "$1", "$2" ..."""
        self.values.append(value)
        return f"${len(self.values)}"

    @property
    def clause(self) -> str:
        """The WHERE clause; "" without conditions."""
        return f"WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
