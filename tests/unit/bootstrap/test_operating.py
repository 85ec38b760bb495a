"""Whose database an operator's command speaks to."""

from pathlib import Path

import pytest

from farm.bootstrap.operating import owner_url
from farm.core.errors import BadRequest
from farm.embedded import EmbeddedFarm, state


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a farm that `farm up` has started once."""
    monkeypatch.delenv("FARM_OWNER_DATABASE_URL", raising=False)
    farm = EmbeddedFarm(tmp_path)
    farm.state.ports.update(dict.fromkeys(("api", "metrics", "postgres", "s3", "ray"), 15_432))
    state.save(tmp_path / "state.json", farm.state)
    return tmp_path


def test_without_a_variable_it_is_the_local_farms(data: Path) -> None:
    assert owner_url(data).startswith("postgresql://farm_owner:")
    assert ":15432/" in owner_url(data)


def test_a_variable_goes_before_the_local_farm(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_OWNER_DATABASE_URL", "postgresql://elsewhere/farm")
    assert owner_url(data) == "postgresql://elsewhere/farm"


def test_with_neither_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FARM_OWNER_DATABASE_URL", raising=False)
    with pytest.raises(BadRequest, match="FARM_OWNER_DATABASE_URL"):
        owner_url(tmp_path)
    assert list(tmp_path.iterdir()) == [], "looking makes no farm"
