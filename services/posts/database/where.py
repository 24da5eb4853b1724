"""The conditions of a list, as SQL: only those that were asked for."""

from typing import Any


class Conditions:
    """Conditions joined by AND, with the values that they compare.

    A statement that says `$1 IS NULL OR …` serves all requests, but PostgreSQL plans it anew each time it runs: with
    the values known most of it falls away, so that no plan for all values ever seems as cheap. What is left out here
    makes a statement of its own, which is planned once.
    """

    def __init__(self) -> None:
        """No condition."""
        self.values: list[Any] = []
        self._conditions: list[str] = []

    def add(self, condition: str, *values: Any) -> None:
        """Ask for `condition` too, which has {0}, {1} … where its values go."""
        self._conditions.append(condition.format(*map(self.place, values)))

    def place(self, value: Any) -> str:
        """The name of a value in the statement: "$1", "$2" …"""
        self.values.append(value)
        return f"${len(self.values)}"

    @property
    def where(self) -> str:
        """The WHERE clause; "" without conditions."""
        return f"WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
