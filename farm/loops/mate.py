"""What the scheduler knows of each renderer between two turns."""

from dataclasses import dataclass, field
from typing import TypeVar

from farm.core.ids import Fence, RendererName, Session, ShardId
from farm.core.plan import Seen
from farm.core.records import Heartbeat
from schemas.report import CacheCounts, Collected, Device, GpuTime, Hello, RenderReport

C = TypeVar("C", CacheCounts, GpuTime)


def grown(before: C, now: C) -> C:
    """What was counted since; a renderer with a fault may count backwards."""
    values = now.model_dump()
    return type(now)(**{name: max(0, values[name] - value) for name, value in before.model_dump().items()})


@dataclass(frozen=True, slots=True)
class Wear:
    """What was added to a device's counters. None where it has no such counter."""

    energy_joules: float | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None


def worn(before: Device | None, now: Device) -> Wear:
    """Nothing, at the first look at it: what was counted before that is not ours. A driver begins anew from zero."""
    old = before if before is not None and before.uuid == now.uuid else now

    def added(new: float | None, was: float | None) -> float | None:
        return None if new is None else max(0.0, new - (new if was is None else was))

    corrected = added(now.ecc_corrected, old.ecc_corrected)
    uncorrected = added(now.ecc_uncorrected, old.ecc_uncorrected)
    return Wear(
        added(now.energy_joules, old.energy_joules),
        None if corrected is None else int(corrected),
        None if uncorrected is None else int(uncorrected),
    )


@dataclass(frozen=True, slots=True)
class Told:
    """What a renderer has said since it was last heard: *reports* not yet settled, and growth."""

    reports: list[RenderReport]
    cache: CacheCounts
    gpu: GpuTime
    wear: Wear


@dataclass(slots=True)
class Mate:
    """One renderer. Nothing here is the truth of a lease; that stands in the database."""

    name: RendererName
    hello: Hello | None = None
    last: Collected | None = None
    pending: Collected | None = None  # heard, not yet settled
    seen_seq: int = 0  # of the newest report that was settled
    asked: set[str] = field(default_factory=set)  # calls that are under way
    fresh: bool = False  # heard since its heartbeat was last written
    draining: bool = False
    told: bool = False  # to drain
    obeyed: bool = False  # it has spoken since
    silent: bool = False  # a call failed, or it has not answered for the lease time
    heard_at: float = 0.0  # monotonic: when it last said what it holds
    excused: float = 0.0  # seconds since then in which it could not have been heard
    draining_since: float | None = None
    busy_at: float | None = None  # when it last had a shard, or was first seen
    inherited: bool = False  # it was there before we led: what it counted until we heard it was another's to tell
    dismissed: bool = False  # it was ended, or sent away unknown: that it goes is no news
    full_until: float = 0.0  # it has just refused a shard that should have fitted

    @property
    def session(self) -> Session | None:
        return None if self.hello is None else Session(self.hello.session)

    @property
    def holds(self) -> frozenset[tuple[ShardId, Fence]]:
        held = self.last.holds if self.last is not None else self.hello.holds if self.hello is not None else ()
        return frozenset((ShardId(shard), Fence(fence)) for shard, fence in held)

    @property
    def state(self) -> str:
        if self.hello is None:
            return "starting"
        if self.draining:
            return "draining"
        return "busy" if self.holds else "idle"

    def answered(self, now: float) -> None:
        self.silent, self.heard_at, self.excused = False, now, 0.0

    def quiet(self, now: float) -> float:
        """Seconds that it could have spoken and did not."""
        return now - self.heard_at - self.excused

    def asked_for(self, now: float) -> float:
        """Seconds since it was first seen, of one that has yet to introduce itself."""
        return 0.0 if self.busy_at is None else now - self.busy_at

    def greet(self, hello: Hello) -> None:
        if self.hello is None or self.hello.session != hello.session:
            self.last, self.seen_seq, self.draining, self.told, self.obeyed = None, 0, False, False, False
            self.draining_since, self.busy_at, self.dismissed = None, None, False
            self.inherited = self.inherited and self.hello is None
        self.hello, self.fresh = hello, True

    def hear(self, collected: Collected) -> Told:
        before = self.last or (collected if self.inherited else None)
        cache, gpu = (CacheCounts(), GpuTime()) if before is None else (before.cache, before.gpu)
        wear = worn(None if self.last is None else self.last.device, collected.device)
        self.last, self.fresh, self.obeyed = collected, True, self.told
        self.draining = self.draining or collected.leaving
        reports = [report for report in collected.reports if report.seq > self.seen_seq]
        return Told(reports, grown(cache, collected.cache), grown(gpu, collected.gpu), wear)

    def settled(self, seq: int, ended: frozenset[tuple[ShardId, str]]) -> None:
        """Reports up to *seq* are committed. It will say itself that it let go of *ended*, but a collect later."""
        self.seen_seq = seq
        if self.last is not None:
            holds = tuple(held for held in self.last.holds if held not in ended)
            self.last = self.last.model_copy(update={"holds": holds})

    def seen(self, now: float) -> Seen:
        if self.holds or self.busy_at is None:
            self.busy_at = now
        warm = self.last.warm if self.last is not None else None
        return Seen(
            name=self.name,
            session=self.session,
            holds=self.holds,
            engine_key=warm.engine_key if warm else "",
            checkpoint=warm.checkpoint if warm else "",
            draining=self.draining,
            silent=self.silent,
            heard_age=now - self.heard_at,
            gpu=self.hello.gpu if self.hello else "",
            idle=now - self.busy_at,
            full=now < self.full_until,
        )

    def heartbeat(self) -> Heartbeat | None:
        if self.hello is None or not self.fresh:
            return None
        last = self.last
        return Heartbeat(
            session=self.hello.session,
            state=self.state,
            doing=last.busy if last else "",
            waiting=last.waiting if last else 0,
            checkpoint=last.warm.checkpoint if last else "",
        )
