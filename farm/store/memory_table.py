"""Tables in memory that can take back what was written to them.

Rows are immutable and replaced as a whole. A change is noted as (table, key, the row before), so taking a transaction
back costs what it changed, not what there is. An index is a function of the rows: it is told of each row that goes and
each that comes, forwards and backwards alike.
"""

from typing import Generic, TypeVar

K = TypeVar("K")
R = TypeVar("R")


class Log:
    """What the transaction under way has changed."""

    __slots__ = ("_changes",)

    def __init__(self) -> None:
        self._changes: list[tuple[Table[object, object], object, object | None]] = []

    def note(self, table: "Table[K, R]", key: K, before: R | None) -> None:
        self._changes.append((table, key, before))  # type: ignore[arg-type]  # each table gets its own keys back

    def commit(self) -> None:
        self._changes.clear()

    def roll_back(self) -> None:
        while self._changes:
            table, key, before = self._changes.pop()
            table.swap(key, before)


class Table(Generic[K, R]):
    """Rows by key."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.rows: dict[K, R] = {}

    def put(self, key: K, row: R) -> None:
        self._log.note(self, key, self.rows.get(key))
        self.swap(key, row)

    def drop(self, key: K) -> None:
        self._log.note(self, key, self.rows.get(key))
        self.swap(key, None)

    def swap(self, key: K, new: R | None) -> None:
        """Makes *new* the row of *key* (None: there is none), with no note of it."""
        old = self.rows.get(key)
        if new is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = new
        if old is not None:
            self.out(old)
        if new is not None:
            self.into(new)

    def out(self, row: R) -> None:
        """Takes a row out of the indexes."""

    def into(self, row: R) -> None:
        """Puts a row into the indexes."""


class Shelf(Table[tuple[int, str], R]):
    """Rows of teams, by team and name."""

    def of(self, team: int) -> list[R]:
        """The team's rows by name."""
        return [self.rows[key] for key in sorted(key for key in self.rows if key[0] == team)]
