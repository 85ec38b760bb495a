"""Whom `farm migrate --roles` lets log in."""

import psycopg.conninfo
import pytest
from sqlalchemy import URL

from farm.bootstrap.migrating import _logins
from farm.config import RoleSettings
from farm.core.errors import BadRequest
from farm.store.postgres import PostgresStore

AT = "db:5432/farm"


def logins(url: str) -> dict[str, str]:
    other = f"postgresql://farm_scheduler:s@{AT}"
    return dict(_logins(RoleSettings.model_validate({"api_database_url": url, "scheduler_database_url": other})))


@pytest.mark.parametrize(
    "password", ["plain", "p/q", "a?b", "a[b", "c#d", "1%2F+", "grün ℀", "%40at", "x:y", "tab%09", "%20"]
)
def test_a_role_gets_the_password_that_its_process_will_say(password: str) -> None:
    """Whatever is not escaped in it: the URL is read here as it is read there."""
    url = f"postgresql://farm_api:{password}@{AT}"
    store = PostgresStore(url)
    said = store._engine.dialect.create_connect_args(store._engine.url)[1]["password"]
    assert said == psycopg.conninfo.conninfo_to_dict(store._work._url)["password"], "and as the listener reads it"
    store.close()
    assert logins(url)["farm_api"] == said


@pytest.mark.parametrize("password", ["p@ss/wörd", " ", "'\"\\$$", "℀"])
def test_a_password_that_is_escaped_comes_out_as_it_was(password: str) -> None:
    url = URL.create("postgresql", "farm_api", password, "db", 5432, "farm")
    assert logins(url.render_as_string(hide_password=False)) == {"farm_api": password, "farm_scheduler": "s"}


@pytest.mark.parametrize("url", [f"postgresql://farm_api@{AT}", f"postgresql://postgres:secret@{AT}", "secret", ""])
def test_a_url_of_somebody_else_or_without_a_password_is_refused_without_saying_it(url: str) -> None:
    with pytest.raises(BadRequest, match="FARM_API_DATABASE_URL has to name the role farm_api") as refused:
        logins(url)
    assert "secret" not in refused.value.detail
