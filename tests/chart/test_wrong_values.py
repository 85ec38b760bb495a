"""Values that cannot work are refused before anything is sent, with words that say which and why.

Each file in `wrong/` is one mistake on top of the defaults; its comments are words that the message must have.
"""

from pathlib import Path

import helm_python as helm
import pytest

from tests.chart.rendering import load, render

WRONG = sorted((Path(__file__).parent / "wrong").glob("*.yaml"))


def test_there_are_ten_and_more() -> None:
    assert len(WRONG) >= 10


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_wrong_values_are_refused_with_readable_words(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    words = [line.removeprefix("# says: ") for line in text.splitlines() if line.startswith("# says: ")]
    with pytest.raises(helm.HelmError) as refused:
        render(load(text)[0])
    message = str(refused.value)
    assert words
    assert [word for word in words if word not in message] == [], message
    assert len(message) < 600, f"nobody reads so much: {message}"
    assert "nil pointer" not in message
    assert "can't evaluate" not in message


def test_the_same_values_without_their_mistake_are_taken() -> None:
    right = """
    api:
      autoscaling: {enabled: true, minReplicas: 2, maxReplicas: 6}
      ingress: {enabled: true, host: farm.example.com}
    renderers:
      drain: {rowsSeconds: 20, raySeconds: 60, graceSeconds: 61}
      cache: {type: claim, claimName: checkpoints}
    scheduler: {settings: {FARM_LEASE_TTL: PT20S}}
    ray: {redis: {enabled: true, address: "redis:6379"}}
    fleets: [{name: l4, renderers: 4, least: 4}, {name: h100, renderers: 2}]
    engine: {attention: math}
    """
    assert render(load(right)[0]).objects
