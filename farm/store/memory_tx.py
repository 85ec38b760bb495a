"""A team's transaction in the store's twin."""

from itertools import islice

from farm.core.ids import CampaignId
from farm.core.records import EventRow
from farm.store.memory_library import Library
from farm.store.memory_looks import Looks
from schemas.event import EventKind


class MemoryTx(Library, Looks):
    """`farm.ports.TeamTx` over the twin's tables."""

    def events(self, *, after: int, limit: int, campaign: CampaignId | None = None) -> list[EventRow]:
        found = self._state.events.after(self._team, after, self.last_event())
        return list(islice((event for event in found if campaign in (None, event.campaign)), limit))

    def warnings(self, campaign: CampaignId) -> dict[str, str]:
        found = self._state.campaigns.rows.get(campaign)
        if found is None or found.row.team != self._team:
            return {}
        events = self.events(after=0, limit=self.last_event(), campaign=campaign)
        said = {str(e.data["code"]): str(e.data["detail"]) for e in events if e.kind == EventKind.CAMPAIGN_WARNING}
        return {code: said[code] for code in found.row.warnings if code in said}

    def last_event(self) -> int:
        team = self._state.teams.rows.get(self._team)
        return 0 if team is None else team.event_id
