"""The client's verbs, one for each thing that the API does."""

import tarfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from farm.sdk.download import NAME, Downloaded, download
from farm.sdk.transport import Params, Transport
from schemas.campaign import (
    Campaign,
    CampaignAmend,
    CampaignDetail,
    CampaignMove,
    CampaignSpec,
    CampaignState,
    PictureLinks,
    Render,
    RenderState,
)
from schemas.checkpoint import Checkpoint, Lora
from schemas.event import Event
from schemas.findings import CheckCounts, Duplicates
from schemas.quote import Quote
from schemas.refine import Refine
from schemas.renderer import RendererView
from schemas.source import Source, SourceLinks
from schemas.style import Style, StyleSpec
from schemas.team import Team
from schemas.why import Why

ENDED = frozenset({CampaignState.DONE, CampaignState.CANCELLED})

SEEN = ENDED | {CampaignState.AWAITING_APPROVAL}
"""Nothing more happens unless somebody decides."""


class Client(Transport):
    """The farm, for one team."""

    # sources
    def upload_source(self, picture: Path | bytes, name: str | None = None) -> Source:
        """Raises `ApiError` with a code of `SourceFault`."""
        data = picture if isinstance(picture, bytes) else picture.read_bytes()
        title = name or ("source" if isinstance(picture, bytes) else picture.name)
        return self._post("/v1/sources", Source, params={"name": title}, content=data)

    def source(self, source: str) -> Source:
        return self._get(f"/v1/sources/{source}", Source)

    def source_link(self, source: str) -> str:
        """A presigned link to the picture as it was uploaded."""
        return self._get(f"/v1/sources/{source}/links", SourceLinks).picture

    def sources(self) -> Iterator[Source]:
        return self._pages("/v1/sources", Source)

    # weights
    def add_checkpoint(self, name: str, weights: Path | None = None, *, key: str | None = None) -> Checkpoint:
        """*weights*: a diffusers folder, a tar of one, or one .safetensors file; or *key*, its place in the depot."""
        params = {"name": name, "key": key}
        if weights is None:
            return self._post("/v1/checkpoints", Checkpoint, params=params)
        with _packed(weights) as file:
            return self._post("/v1/checkpoints", Checkpoint, params=params, file=file)

    def checkpoints(self) -> Iterator[Checkpoint]:
        return self._pages("/v1/checkpoints", Checkpoint)

    def add_lora(
        self,
        name: str,
        weights: Path | None = None,
        *,
        key: str | None = None,
        checkpoint: str | None = None,
        trigger_words: tuple[str, ...] = (),
        licence: str = "",
        expires_at: datetime | None = None,
    ) -> Lora:
        params: Params = {
            "name": name,
            "key": key,
            "checkpoint": checkpoint,
            "trigger_word": list(trigger_words),
            "licence": licence,
            "expires_at": None if expires_at is None else expires_at.isoformat(),
        }
        if weights is None:
            return self._post("/v1/loras", Lora, params=params)
        with weights.open("rb") as file:
            return self._post("/v1/loras", Lora, params=params, file=file)

    def loras(self) -> Iterator[Lora]:
        return self._pages("/v1/loras", Lora)

    # styles
    def save_style(self, spec: StyleSpec) -> Style:
        return self._post("/v1/styles", Style, body=spec)

    def styles(self) -> Iterator[Style]:
        return self._pages("/v1/styles", Style)

    def style(self, name: str) -> Style:
        return self._get(f"/v1/styles/{name}", Style)

    def style_versions(self, name: str) -> Iterator[Style]:
        return self._pages(f"/v1/styles/{name}/versions", Style)

    # campaigns
    def submit(self, spec: CampaignSpec, *, idempotency_key: str | None = None) -> Campaign:
        """Raises `ApiError`; ``problem.errors`` then lists everything that is wrong."""
        return self.submit_once(spec, idempotency_key or str(uuid.uuid4()))[0]

    def submit_once(self, spec: CampaignSpec, idempotency_key: str) -> tuple[Campaign, bool]:
        """And whether it was there already: the same spec came with this key before."""
        response = self._post_raw("/v1/campaigns", body=spec, key=idempotency_key)
        replayed = response.headers.get("Idempotent-Replayed") == "true"
        return Campaign.model_validate_json(response.content), replayed

    def quote(self, spec: CampaignSpec) -> Quote:
        """What it would cost and when it would be done. Raises `ApiError` as `submit` does; nothing is stored."""
        return self._post("/v1/quotes", Quote, body=spec)

    def campaigns(self) -> Iterator[Campaign]:
        """Newest first."""
        return self._pages("/v1/campaigns", Campaign)

    def queue(self) -> Iterator[Campaign]:
        """Those that have not ended, in the order in which they are rendered."""
        return self._pages("/v1/queue", Campaign)

    def campaign(self, campaign: str) -> CampaignDetail:
        return self._get(f"/v1/campaigns/{campaign}", CampaignDetail)

    def why(self, campaign: str) -> Why:
        """Why it waits, in one sentence."""
        return self._get(f"/v1/campaigns/{campaign}/why", Why)

    def approve(self, campaign: str) -> Campaign:
        """Its proof is good: the rest is rendered."""
        return self._post(f"/v1/campaigns/{campaign}/approve", Campaign)

    def amend(self, campaign: str, changes: CampaignAmend) -> CampaignDetail:
        """Priority, deadline, budget; what is None stays as it is."""
        return self._patch(f"/v1/campaigns/{campaign}", CampaignDetail, changes)

    def move(self, campaign: str, to: CampaignMove) -> Campaign:
        """In its team's queue."""
        return self._post(f"/v1/campaigns/{campaign}/move", Campaign, body=to)

    def pause(self, campaign: str) -> Campaign:
        return self._post(f"/v1/campaigns/{campaign}/pause", Campaign)

    def resume(self, campaign: str) -> Campaign:
        return self._post(f"/v1/campaigns/{campaign}/resume", Campaign)

    def cancel(self, campaign: str) -> Campaign:
        return self._post(f"/v1/campaigns/{campaign}/cancel", Campaign)

    def retry(self, campaign: str, *, idempotency_key: str | None = None) -> Campaign:
        """A new campaign that renders again what failed in this one."""
        path = f"/v1/campaigns/{campaign}/retry"
        return self._post(path, Campaign, key=idempotency_key or str(uuid.uuid4()))

    def refine(self, render: str, changes: Refine | None = None, *, idempotency_key: str | None = None) -> Campaign:
        """A new campaign that renders a finished render once more, with *changes*: from its picture, or its source."""
        path = f"/v1/renders/{render}/refine"
        return self._post(path, Campaign, body=changes or Refine(), key=idempotency_key or str(uuid.uuid4()))

    def duplicates(self, campaign: str, *, distance: int = 6) -> Duplicates:
        """Finished renders of one source that look alike."""
        return self._get(f"/v1/campaigns/{campaign}/duplicates", Duplicates, {"distance": distance})

    def checks(self, campaign: str) -> CheckCounts:
        """How many finished renders missed the checks of their styles."""
        return self._get(f"/v1/campaigns/{campaign}/checks", CheckCounts)

    def wait(
        self, campaign: str, timeout: timedelta | None = None, *, states: Collection[CampaignState] = ENDED
    ) -> CampaignDetail:
        """Until it is in one of *states*. With `SEEN` a proof that waits for approval is an end too.

        Raises `TimeoutError`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
        for event in self._stream(f"/v1/campaigns/{campaign}/events", None, deadline):
            # Also looked at whenever the stream (re)opens: it may have ended before.
            if event is None or event.kind == "campaign.state":
                found = self.campaign(campaign)
                if found.state in states:
                    return found
        raise AssertionError("the stream goes on until it is left")

    # renders
    def renders(
        self,
        campaign: str,
        *,
        state: RenderState | None = None,
        style: str | None = None,
        strength: float | None = None,
        source: str | None = None,
    ) -> Iterator[Render]:
        """In order of their ordinals."""
        params: Params = {"state": state, "style": style, "strength": strength, "source": source, "limit": 200}
        return self._pages(f"/v1/campaigns/{campaign}/renders", Render, params)

    def render(self, render: str) -> Render:
        return self._get(f"/v1/renders/{render}", Render)

    def links(self, render: str) -> PictureLinks:
        return self._get(f"/v1/renders/{render}/links", PictureLinks)

    def download(
        self,
        campaign: str,
        folder: Path,
        name: str = NAME,
        *,
        on_file: Callable[[Render], None] | None = None,
    ) -> Downloaded:
        """Every picture of a campaign into *folder*, and each kind of rendition into a folder of its own in there.

        What is there already, with the right sha256, stays as it is.
        """
        return download(self, self.renders(campaign, state=RenderState.SUCCEEDED), folder, name, on_file)

    # the farm
    def team(self) -> Team:
        """Whose key this is: its share, its limits, and what it has spent this month."""
        return self._get("/v1/team", Team)

    def renderers(self) -> Iterator[RendererView]:
        return self._pages("/v1/renderers", RendererView)

    def ready(self, patience: timedelta = timedelta(0)) -> None:
        """Raises `Unreachable`, with every part that is down in ``problem.errors``, when it is so after *patience*."""
        self._send("GET", "/readyz", patience=patience.total_seconds())

    def events(self, campaign: str | None = None, *, after: int | None = None) -> Iterator[Event]:
        """What happens, from now on or after that event; it reconnects by itself and never ends."""
        path = "/v1/events" if campaign is None else f"/v1/campaigns/{campaign}/events"
        return (event for event in self._stream(path, after, None) if event is not None)


def _packed(weights: Path) -> AbstractContextManager[IO[bytes]]:
    """A folder as a tar of what may be in a checkpoint; a file as it is."""
    if not weights.is_dir():
        return weights.open("rb")
    file = TemporaryFile()  # noqa: SIM115  (the caller closes it)
    with tarfile.open(fileobj=file, mode="w:") as tar:
        for path in sorted(weights.rglob("*")):
            if path.is_file() and path.suffix in (".json", ".txt", ".safetensors"):
                tar.add(path.resolve(), path.relative_to(weights).as_posix())
    return file
