"""What may lie over a source: decided when a campaign is submitted, and once more by the renderer."""

from hypothesis import example, given
from hypothesis import strategies as st

from actors.geometry import same_aspect
from farm.core.aspect import lies_over

sides = st.tuples(st.integers(16, 400), st.integers(16, 400))


@given(sides, st.floats(0.3, 6), st.floats(0.97, 1.03))
@example((135, 186), 641 / 135, 892 / 186 / (641 / 135))  # taken here, refused there
@example((16, 291), 54 / 16, 1000 / 291 / (54 / 16))  # refused here, though it works
def test_farm_and_renderer_decide_alike(picture: tuple[int, int], grown: float, off: float) -> None:
    source = max(16, round(picture[0] * grown)), max(16, round(picture[1] * grown * off))
    renderer = same_aspect(picture, source) or same_aspect(picture[::-1], source)  # either may be turned by its EXIF
    assert lies_over(picture, source) == renderer
