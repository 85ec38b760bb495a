"""Which migrations run in which phase."""

import pytest

from farm.core.errors import Refused
from farm.core.migration import Phase, missing, parse, pending, to_run

E, C = Phase.EXPAND, Phase.CONTRACT

# Three releases: 1-3, 4-5, 6-8.
NAMES = (
    "1_expand_a",
    "2_expand_b",
    "3_expand_c",
    "4_expand_d",
    "5_contract_e",
    "6_expand_f",
    "7_expand_g",
    "8_contract_h",
)
CHAIN = parse(NAMES)


def ran(current: str | None, only: Phase | None, chain: int = len(NAMES)) -> str:
    return "".join(revision.id for revision in to_run(CHAIN[:chain], current, only))


def test_names_are_read_in_their_order_and_say_their_phase() -> None:
    assert parse(("0002_contract_b_c", "0001_expand_a")) == (
        *parse(("0001_expand_a",)),
        *parse(("0002_contract_b_c",)),
    )
    assert [revision.phase for revision in CHAIN] == [E, E, E, E, C, E, E, C]
    with pytest.raises(ValueError, match="shrink"):
        parse(("0001_shrink_a",))


@pytest.mark.parametrize(
    ("current", "only", "expected"),
    [
        ("5", E, "67"),
        ("5", C, "678"),
        ("6", E, "7"),
        ("7", E, ""),
        ("7", C, "8"),
        ("8", C, ""),
        ("3", None, "45678"),
        (None, None, "12345678"),
        (None, E, "1234567"),  # an empty database has no processes that would mind
        (None, C, "12345678"),
        ("9", E, ""),  # a later release's
        ("9", None, ""),
    ],
)
def test_each_phase_runs_what_belongs_to_it(current: str | None, only: Phase | None, expected: str) -> None:
    assert ran(current, only) == expected


@pytest.mark.parametrize("current", ["2", "3", "4"])
@pytest.mark.parametrize("only", [E, C])
def test_a_release_that_was_left_out_is_refused_by_name(current: str, only: Phase) -> None:
    with pytest.raises(Refused, match=r"5_contract_e was not run, and 7_expand_g comes after it") as refused:
        ran(current, only)
    assert refused.value.code == "upgrade_skips_release"


def test_the_release_before_may_be_upgraded_although_its_first_tables_are_older() -> None:
    assert ran("2", E, chain=5) == "34"
    assert ran("2", C, chain=5) == "345"


def test_a_service_misses_what_expands_and_never_what_contracts() -> None:
    assert missing(CHAIN, None) == missing(CHAIN, "5") == missing(CHAIN, "6") == CHAIN[6]
    assert missing(CHAIN, "7") is missing(CHAIN, "8") is missing(CHAIN, "9") is None
    assert pending(CHAIN, "7") == CHAIN[7:]
