"""The page of states is drawn from the edges in the code."""

from ops import diagrams


def test_the_page_of_states_is_fresh() -> None:
    assert diagrams.TARGET.read_text() == diagrams.page(), "run: python ops/diagrams.py"


def test_an_edge_more_is_an_arrow_more() -> None:
    drawn = diagrams.diagram({("a", "b")}, begins=("a",), ends=("b",))
    assert [line.strip() for line in drawn.splitlines()[2:-1]] == ["[*] --> a", "a --> b", "b --> [*]"]
