"""Who is to blame when renders fail: the render, or the renderer? Judged by how the same renders fare elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from farm.core.ids import RendererName
from farm.core.records import Accusation, Quarantined
from farm.core.words import many

ENOUGH = 3
"""Different renders that must have failed on a renderer since its last success before anything is made of it."""

CLEARED = 2
"""Of them: so many that succeeded elsewhere prove that it was the renderer."""

SUSPICION = timedelta(minutes=1)
"""For how long after its last failure a renderer is suspected: in this time others try what failed there."""

OUTAGE = timedelta(minutes=1)
"""Two renderers that could not reach the object store within this time: it is the store that was to blame."""

QUARANTINE = timedelta(minutes=5)
LONGEST = timedelta(hours=2)

ALONE_ENOUGH, ALONE_CAMPAIGNS = 10, 3
"""What must have failed on the only renderer, with which no other compares, before work waits for it to get well."""


@dataclass(frozen=True, slots=True)
class Quarantine:
    name: RendererName
    why: str
    lasts: timedelta


@dataclass(frozen=True, slots=True)
class Release:
    name: RendererName


@dataclass(frozen=True, slots=True)
class Verdict:
    """*closed* get no work; *probing* get one shard at a time; *suspects* none while others could take it."""

    decisions: tuple[Quarantine | Release, ...]
    suspects: frozenset[RendererName]
    closed: frozenset[RendererName]
    probing: frozenset[RendererName]


def judge(
    accusations: Sequence[Accusation],
    quarantined: Sequence[Quarantined],
    *,
    names: frozenset[RendererName],
    succeeded: frozenset[RendererName],
    now: datetime,
) -> Verdict:
    """*names* are the renderers there are; *succeeded* those that rendered something since the last look.

    A renderer is closed on proof: what failed there succeeded elsewhere. Without proof, when several campaigns failed
    there and nobody has tried the same elsewhere within the time of suspicion, it is closed too, but only as long as
    few are: when many fail at once it is the work. So no campaign, however bad, closes a farm.
    """
    accused = {one.name: one for one in accusations if one.name not in succeeded}
    known = {one.name for one in quarantined}
    decisions, closed, probing = _after_quarantine(accused, quarantined, succeeded, now)
    open_names = names - closed - probing
    against = [accused[name] for name in sorted(open_names & accused.keys()) if accused[name].failed >= ENOUGH]
    proven = [one for one in against if one.cleared >= CLEARED]
    unproven = [one for one in against if one.cleared < CLEARED and _stands_alone(one, open_names, now)]
    if len(unproven) + len(known & (closed | probing)) > max(1, len(names) // 4):
        unproven = []
    convicted = [*proven, *unproven]
    closed |= {one.name for one in convicted}
    return Verdict(
        decisions=(*decisions, *(Quarantine(one.name, _why(one), QUARANTINE) for one in convicted)),
        suspects=_suspects([one for one in against if one.name not in closed], open_names - closed, now),
        closed=frozenset(closed),
        probing=frozenset(probing),
    )


def _after_quarantine(
    accused: Mapping[RendererName, Accusation],
    quarantined: Sequence[Quarantined],
    succeeded: frozenset[RendererName],
    now: datetime,
) -> tuple[list[Quarantine | Release], set[RendererName], set[RendererName]]:
    """Decisions over renderers in quarantine, and which of them are closed, and which get a probe."""
    decisions: list[Quarantine | Release] = []
    closed: set[RendererName] = set()
    probing: set[RendererName] = set()
    for one in sorted(quarantined, key=lambda one: one.name):
        failed = accused.get(one.name)
        if one.by_hand or now < one.until:
            closed.add(one.name)
        elif one.name in succeeded:
            decisions.append(Release(one.name))
        elif failed is not None and failed.last_at >= one.until:  # what it had when it was closed is no probe
            closed.add(one.name)
            lasts = min(LONGEST, QUARANTINE * 2 ** min(one.probes + 1, 10))
            decisions.append(Quarantine(one.name, f"Its probe failed too. {_why(failed)}", lasts))
        else:
            probing.add(one.name)
    return decisions, closed, probing


def _stands_alone(one: Accusation, open_names: frozenset[RendererName], now: datetime) -> bool:
    """Whether it alone is accused, by different campaigns, and nobody could or would compare."""
    if one.shared:
        return False
    if open_names <= {one.name}:
        return one.failed >= ALONE_ENOUGH and one.campaigns >= ALONE_CAMPAIGNS
    return one.campaigns > 1 and now - one.last_at >= SUSPICION


def _suspects(
    against: Sequence[Accusation], open_names: frozenset[RendererName], now: datetime
) -> frozenset[RendererName]:
    """At most half of those at work: were there more, a bad campaign would bring the farm to a crawl."""
    fresh = [one for one in against if one.failed - one.shared >= ENOUGH and now - one.last_at < SUSPICION]
    fresh.sort(key=lambda one: (one.shared - one.failed, one.name))
    return frozenset(one.name for one in fresh[: len(open_names) // 2])


def _why(one: Accusation) -> str:
    campaigns = f" of {one.campaigns} campaigns" if one.campaigns > 1 else ""
    elsewhere = f"; {one.cleared} of them succeeded elsewhere" if one.cleared else ""
    return f"{many(one.failed, 'render')}{campaigns} failed there in a row{elsewhere}. Last: {one.last_code}."
