"""A team's transaction in the store's twin."""

from itertools import islice

from farm.core.ids import CampaignId
from farm.core.records import EventRow
from farm.store.memory_library import Library
from farm.store.memory_looks import Looks


class MemoryTx(Library, Looks):
    """`farm.ports.TeamTx` over the twin's tables."""

    def events(self, *, after: int, limit: int, campaign: CampaignId | None = None) -> list[EventRow]:
        found = self._state.events.after(self._team, after, self.last_event())
        return list(islice((event for event in found if campaign in (None, event.campaign)), limit))

    def last_event(self) -> int:
        team = self._state.teams.rows.get(self._team)
        return 0 if team is None else team.event_id
