"""Whether the indexes and counts of the store's twin are what its rows make them."""

from farm.store.memory_state import State
from farm.store.memory_table import Log, Table


def faults(state: State) -> list[str]:
    """Names of tables whose indexes, built anew from their rows, come out otherwise. Costs a look at every row."""
    tables = {name: table for name, table in vars(state).items() if isinstance(table, Table)}
    return [name for name, table in sorted(tables.items()) if _plain(table) != _plain(_rebuilt(table))]


def _rebuilt(table: Table[object, object]) -> Table[object, object]:
    fresh = type(table)(Log())
    for key, row in table.rows.items():
        fresh.swap(key, row)
    return fresh


def _plain(value: object) -> object:
    """Without what is empty: an index that once held something may still say that it holds nothing."""
    match value:
        case Log() | str() | int() | float() | None | tuple():
            return None if isinstance(value, Log) else value
        case set() | frozenset() | list():
            return value
        case dict():
            found = {key: _plain(part) for key, part in value.items()}
        case _:
            found = {name: _plain(getattr(value, name)) for name in _names(value) if hasattr(value, name)}
    return {key: part for key, part in found.items() if part} or None


def _names(value: object) -> set[str]:
    slots = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
    return slots | set(getattr(value, "__dict__", ()))
