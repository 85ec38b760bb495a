"""How much larger than a render its renditions are."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.rendition import Rendition, enlarged

sides = st.integers(16, 400)
render_sides = st.integers(2, 20).map(lambda value: 8 * value)


@given(render_sides, render_sides, sides, sides)
def test_a_size_is_never_cut_from_fewer_pixels_than_it_has(width: int, height: int, across: int, down: int) -> None:
    wanted = Rendition(name="a", size=f"{across}x{down}")
    base = enlarged(f"{width}x{height}", (wanted,)) or (width, height)
    cut = wanted.crop(*base)
    assert cut[0] >= across
    assert cut[1] >= down
