from hypothesis import given
from hypothesis import strategies as st

from farm.core.template import fill, names, stray


def test_names_and_fill() -> None:
    template = "{prompt}, a {sku} and {sku}, {Big} {x.y} {} {a!r}"
    assert names(template) == {"prompt", "sku"}
    filled = fill(template, {"prompt": "{sku}", "sku": "A"})
    assert filled == "{sku}, a A and A, {Big} {x.y} {} {a!r}"  # what was put in is not looked at again


def test_stray_braces_are_found() -> None:
    assert stray("{prompt} {sku}") is None
    assert stray("a {Prompt}") == "{Prompt}"
    assert stray("a } b") == "} b"


@given(st.text())
def test_without_names_nothing_changes(text: str) -> None:
    assert names(text) or fill(text, {}) == text
