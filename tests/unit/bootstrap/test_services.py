"""Settings come from the environment, all of them or none."""

import pytest

from farm.bootstrap.services import kinds_of, pace_of, read, renderer_settings
from farm.config import ApiSettings, MigrateSettings, SchedulerSettings
from farm.core.errors import BadRequest

GIVEN = {
    "FARM_DEPOT_ENDPOINT": "s3:9000",
    "FARM_DEPOT_ACCESS_KEY": "a",
    "FARM_DEPOT_SECRET_KEY": "hush",
    "FARM_SCHEDULER_DATABASE_URL": "postgresql://u:hush@h/d",
    "FARM_RAY_ADDRESS": "ray:6379",
}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_misspelt_setting_is_refused_with_the_name_that_was_meant(given: pytest.MonkeyPatch) -> None:
    given.setenv("FARM_LEASE_TLL", "PT1S")
    with pytest.raises(BadRequest, match=r"FARM_LEASE_TLL \(did you mean FARM_LEASE_TTL\?\)"):
        read(SchedulerSettings)


def test_what_another_process_reads_is_no_fault(given: pytest.MonkeyPatch) -> None:
    given.setenv("FARM_OWNER_DATABASE_URL", "postgresql://o:o@h/d")
    given.setenv("FARM_MAX_CAMPAIGN_RENDERS", "5")
    assert read(SchedulerSettings).ray_address == "ray:6379"
    assert read(MigrateSettings).owner_database_url.get_secret_value() == "postgresql://o:o@h/d"


def test_every_missing_setting_is_named_at_once_and_no_secret_is_shown(given: pytest.MonkeyPatch) -> None:
    given.delenv("FARM_DEPOT_ENDPOINT")
    given.setenv("FARM_API_PORT", "no port")
    with pytest.raises(BadRequest) as refused:
        read(ApiSettings)
    for name in ("FARM_DEPOT_ENDPOINT", "FARM_API_DATABASE_URL", "FARM_API_PORT"):
        assert name in refused.value.detail
    assert "hush" not in refused.value.detail


def test_renderers_are_named_by_fleet_revision_and_number(given: pytest.MonkeyPatch) -> None:
    given.setenv("FARM_FLEET_RENDERERS", "2")
    given.setenv("FARM_FLEET_NAME", "h100")
    settings = read(SchedulerSettings)
    (fleet,) = pace_of(settings).scale.fleets
    assert (fleet.prefix, fleet.most, fleet.least) == ("farm/h100/1/", 2, 0)
    assert renderer_settings(settings, "farm/h100/1/0").engine == "diffusers"


def test_several_fleets_take_from_the_only_one_what_they_leave_out(given: pytest.MonkeyPatch) -> None:
    given.setenv(
        "FARM_FLEETS",
        '[{"name": "h100", "renderers": 8}, {"name": "l4", "least": 1, "gpus": 0.5, "gpu": "L4", "revision": "b7"}]',
    )
    given.setenv("FARM_FLEET_CPUS", "3")
    given.setenv("FARM_OFF_PEAK", '["22:00-06:00"]')
    settings = read(SchedulerSettings)
    assert [(fleet.name, fleet.cpus, fleet.gpus) for fleet in kinds_of(settings)] == [("h100", 3, 1), ("l4", 3, 0.5)]
    scale = pace_of(settings).scale
    assert [(fleet.prefix, fleet.most, fleet.gpu) for fleet in scale.fleets] == [
        ("farm/h100/1/", 8, None),
        ("farm/l4/b7/", 1, "L4"),
    ]
    assert len(scale.off_peak) == 1


def test_hours_that_cannot_be_read_are_refused(given: pytest.MonkeyPatch) -> None:
    given.setenv("FARM_OFF_PEAK", '["at night"]')
    with pytest.raises(BadRequest):
        pace_of(read(SchedulerSettings))


def test_what_a_renderer_is_told_of_its_engine_comes_from_the_settings(given: pytest.MonkeyPatch) -> None:
    for name, value in ENGINE.items():
        given.setenv(f"FARM_ENGINE_{name.upper()}", value)
    told = renderer_settings(read(SchedulerSettings), "farm/h100/1/0").model_dump()
    assert {name: str(told[name]).lower() for name in ENGINE} == ENGINE


ENGINE = {
    "compile": "true",
    "attention": "cudnn",
    "vae": "half",
    "quantise": "fp8",
    "gpu_bytes": "1000000",
    "ram_bytes": "2000000",
    "identity": "/models/clip",
    "encoders": "3",
}


def test_settings_of_the_engine_have_the_renderers_own_defaults_and_limits() -> None:
    """They stand in two places, as the scheduler does not load what a renderer is made of."""
    from actors.settings import RendererSettings

    names = {"fake_seconds": "fake_seconds"} | {
        name: f"engine_{name}" for name in (*ENGINE, "batch", "threads", "cache_bytes")
    }
    for theirs, ours in names.items():
        one, other = RendererSettings.model_fields[theirs], SchedulerSettings.model_fields[ours]
        assert (one.default, str(one.metadata)) == (other.default, str(other.metadata)), ours
