"""Which farm the commands speak to: options, else the environment, else what `farm up` wrote down."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import typer

from farm.cli.exits import AUTH, Stop
from farm.sdk import Client


@dataclass(frozen=True, slots=True)
class Connection:
    url: str | None
    key: str | None
    data: Path

    def client(self) -> Client:
        """Raises `Stop` when nothing says where the farm is."""
        url = self._url()
        key = self.key or os.environ.get("FARM_API_KEY") or self._saved().get("key")
        if not key:
            raise Stop(f"There is no key for {url}: give --key or FARM_API_KEY.", AUTH)
        return Client(url, key)

    def keyless(self) -> Client:
        """For what needs no key. Raises `Stop`."""
        return Client(self._url(), None)

    def _url(self) -> str:
        url = self.url or os.environ.get("FARM_URL") or self._saved().get("url")
        if not url:
            raise Stop(
                f"There is no farm: {self.data / 'client.json'} is missing. Start one with `farm up`, "
                "or name one with --url and --key, or FARM_URL and FARM_API_KEY."
            )
        return url

    def _saved(self) -> dict[str, str]:
        path = self.data / "client.json"
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as fault:
            raise Stop(f"{path} cannot be read: {fault}. `farm up` writes it anew.") from fault
        return {k: str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def data_folder(given: Path | None) -> Path:
    return (given or Path(os.environ.get("FARM_DATA", ".farm"))).absolute()


def connection(ctx: typer.Context) -> Connection:
    found = ctx.find_object(Connection)
    if found is None:
        raise RuntimeError("the root command sets it")
    return found


def client(ctx: typer.Context) -> Client:
    """For the length of the command."""
    return ctx.with_resource(connection(ctx).client())
