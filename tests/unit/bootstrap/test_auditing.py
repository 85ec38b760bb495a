"""Which farm an operator's commands look at, and what the janitor is given."""

from datetime import timedelta
from pathlib import Path

import pytest

from farm.bootstrap.auditing import _operated, _setting
from farm.bootstrap.services import upkeep_of
from farm.config import SchedulerSettings
from farm.core.errors import BadRequest
from farm.embedded import EmbeddedFarm, ports, state

ENVIRONMENT = {
    "FARM_OWNER_DATABASE_URL": "postgresql://owner:o@h/d",
    "FARM_SCHEDULER_DATABASE_URL": "postgresql://s:s@h/d",
    "FARM_DEPOT_ENDPOINT": "s3:9000",
    "FARM_DEPOT_ACCESS_KEY": "key",
    "FARM_DEPOT_SECRET_KEY": "hush",
    "FARM_RAY_ADDRESS": "ray:6379",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_environment_names_the_farm(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url, depot = _operated(tmp_path)
    assert url == ENVIRONMENT["FARM_OWNER_DATABASE_URL"]
    assert (depot.depot_endpoint, depot.depot_secure) == ("s3:9000", True)


def test_without_it_the_farm_in_the_data_folder_is_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BadRequest, match="FARM_OWNER_DATABASE_URL"):
        _operated(tmp_path)
    farm = EmbeddedFarm(tmp_path)
    farm.state.ports |= ports.settle(["postgres", "s3", "api", "metrics", "ray"], {})
    state.save(tmp_path / "state.json", farm.state)
    url, depot = _operated(tmp_path)
    assert f":{farm.state.ports['postgres']}/" in url
    assert "farm_owner" in url
    assert depot.depot_endpoint.endswith(str(farm.state.ports["s3"]))
    assert not depot.depot_secure
    assert depot.depot_secret_key.get_secret_value() == farm.state.secrets["s3_secret"]


def test_a_duration_of_the_scheduler_is_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FARM_GARBAGE_GRACE", raising=False)
    assert _setting("garbage_grace") == SchedulerSettings.model_fields["garbage_grace"].default
    monkeypatch.setenv("FARM_GARBAGE_GRACE", "PT9H")
    assert _setting("garbage_grace") == timedelta(hours=9)
    monkeypatch.setenv("FARM_GARBAGE_GRACE", "soon")
    with pytest.raises(BadRequest, match="FARM_GARBAGE_GRACE is 'soon'"):
        _setting("garbage_grace")


def test_the_janitor_is_given_what_the_settings_say(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FARM_KEEP_EVENTS", "P3D")
    settings = SchedulerSettings()
    upkeep = upkeep_of(settings)
    assert (upkeep.grace, upkeep.keep.events) == (settings.garbage_grace, timedelta(days=3))


def test_a_grace_below_lease_and_links_is_refused_at_start_up(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FARM_GARBAGE_GRACE", "PT2H")
    with pytest.raises(BadRequest, match="FARM_GARBAGE_GRACE is 2:00:00") as refused:
        upkeep_of(SchedulerSettings())
    assert refused.value.code == "bad_settings"
