"""What the farm promises, checked at each step by books of our own. Each check has a name; `Violation` carries it.

P1 one outcome     a render has one outcome, and it never changes
P2 nothing lost    what a shard had to do is an outcome, in a child, or still to do
P3 object there    a succeeded outcome's object is in the depot with its sha256
P4 no orphan       after the grace, nothing is in the depot that no picture refers to
P5 no repeat       a render begins again only for a lost lease, a counted retry, or because it was stopped
P6 one leader      only the newest epoch's transactions commit, and renderers take no older orders
P7 drained         a node that goes leaves nothing in the GPU and nothing unreported
P8 newcomer        a team that begins to wait is next after what is in the renderers already
P8 shares          teams that wait get GPU seconds by their weights
P9 cancelled       of a cancelled campaign nothing is leased, and soon nothing starts
P10 one campaign   an idempotency key makes one campaign
P11 same recipe    a render has the same recipe and fingerprint in every order
P12 known          nothing is ordered that the team had a picture of
charges            every try is charged once
proof              nothing beyond the proof is leased before it is approved
blame              no good render fails; a broken renderer gets little work, a closed one none
avoid              a retry goes elsewhere as long as there is an elsewhere
alive              in the calm everything ends
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from actors.ledger import Ledger, Stage
from farm.core.campaign import recipe_at
from farm.core.fingerprint import fingerprint
from farm.core.ids import RendererName, ShardId
from farm.core.placement import Placed
from farm.core.settle import NewOutcome, Settled, ShardRow
from farm.core.shard import ordinals_of
from farm.store.memory import MemoryStore
from schemas.campaign import CampaignState
from schemas.order import OrderRow, ShardOrder
from schemas.report import RowReport
from tests.simulation.depot import SimulatedDepot
from tests.simulation.fairness import Fairness
from tests.simulation.gpu import Physics
from tests.simulation.health import Health
from tests.simulation.kernel import Kernel, Violation

Render = tuple[int, int]  # campaign, ordinal
Attempt = tuple[int, str, int]  # shard, fence, ordinal

HEARTBEAT = 6.0
"""Seconds in which a cancelled campaign stops, when all is well: a tick, a long turn before it, and a call."""

RACE_EVERY = 2.0


@dataclass(slots=True)
class Commit:
    """What one transaction of a scheduler changed."""

    epoch: int
    taken: list[tuple[ShardRow, Placed]] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    lost: list[ShardRow] = field(default_factory=list)  # put back: the renderer is gone
    released: list[ShardRow] = field(default_factory=list)  # put back: it never got there


class Promises:
    def __init__(
        self, kernel: Kernel, store: MemoryStore, depot: SimulatedDepot, physics: Physics, renderers: int
    ) -> None:
        self._kernel, self._store, self._depot = kernel, store, depot
        self.fairness = Fairness(kernel, store, renderers)
        self.health = Health(kernel, store, physics)
        self.epoch = 0
        self.commits = 0
        self.disturbed_until = 0.0  # a fault was, or may have been, felt until then
        self.outcomes: dict[Render, NewOutcome] = {}
        self.pictures: dict[tuple[int, str], int] = {}  # team, fingerprint -> number of the commit
        self.fingerprints: dict[Render, str] = {}
        self.held: set[Render] = set()  # beyond a proof that is not approved
        self.cancelled_at: dict[int, float] = {}
        self.charged: dict[int, float] = {}
        self._starts: dict[Render, int] = {}
        self._excused: dict[Render, int] = {}
        self._alive: set[Attempt] = set()  # reported by a renderer that lives
        self._seconds: dict[Attempt, float] = {}  # GPU seconds of tries that were reported and not settled
        self._first: set[str] = set()

    def broken(self, check: str, detail: str) -> Violation:
        return Violation(check, f"{detail} (at {self._kernel.now:.3f} s)")

    def hold(self, check: str, wrong: str | None) -> None:
        """Raises `Violation` when something is wrong."""
        if wrong is not None:
            raise self.broken(check, wrong)

    def quiet_since(self, moment: float) -> bool:
        """No fault was felt since then."""
        return self.disturbed_until <= moment

    def disturb(self, seconds: float = 0.0) -> None:
        self.disturbed_until = max(self.disturbed_until, self._kernel.now + seconds)

    # at the renderers

    def order_taken(self, name: str, order: ShardOrder, *, seen: int) -> None:
        if order.epoch < seen:
            raise self.broken("P6 one leader", f"{name} took an order of epoch {order.epoch} after {seen}")

    def started(self, name: str, session: str, order: ShardOrder, row: OrderRow) -> None:
        render = (order.campaign, row.ordinal)
        begun = self._starts[render] = self._starts.get(render, 0) + 1
        shard = self._store.state.shards.rows[ShardId(order.shard)]
        leased = shard.state == "leased" and (shard.session, shard.fence) == (session, order.fence)
        if not leased:  # its lease is lost, and it does not know yet
            self._excused[render] = self._excused.get(render, 0) + 1
        if begun > 1 + self._excused.get(render, 0):
            raise self.broken("P5 no repeat", f"render {render} began {begun} times; {name} has it now")
        gone = self.cancelled_at.get(order.campaign)
        if gone is not None and self._kernel.now > gone + HEARTBEAT and self.quiet_since(gone - HEARTBEAT):
            raise self.broken("P9 cancelled", f"render {render} began on {name}, cancelled at {gone:.3f} s")

    def stopped(self, campaign: int, ordinal: int) -> None:
        self._excuse(campaign, [ordinal])

    def reported(self, shard: int, fence: str, report: RowReport) -> None:
        self._alive.add((shard, fence, report.ordinal))
        self._seconds[shard, fence, report.ordinal] = report.seconds.gpu

    def life_ended(self, ledger: Ledger) -> None:
        """What it had reported and nobody has heard is gone with it: that may be rendered again."""
        held = set(ledger.holds())
        self._alive = {attempt for attempt in self._alive if attempt[:2] not in held}

    def node_goes(self, name: str, ledger: Ledger, told: float) -> None:
        if self.quiet_since(told) and (ledger.count(Stage.RUNNING) or ledger.count(Stage.WAITING)):
            raise self.broken("P7 drained", f"{name} still has {ledger.holds()} when its node goes")

    def first_try(self, of: str) -> bool:
        if of in self._first:
            return False
        self._first.add(of)
        return True

    # at the database

    def elected(self, epoch: int) -> None:
        if epoch <= self.epoch:
            raise self.broken("P6 one leader", f"epoch {epoch} begins after {self.epoch}")
        self.epoch = epoch

    def renderer_lives(self, shard: ShardRow) -> bool:
        """As the database has it: the session behind the shard's lease is not over."""
        state = self._store.state
        session = state.sessions.rows.get(state.shards.rows[shard.id].session)  # type: ignore[arg-type]  # None has none
        return session is not None and session.ended_at is None and session.expires_at > state.clock()

    def committed(self, commit: Commit) -> None:
        self.commits += 1
        if commit.epoch != self.epoch and (commit.taken or commit.settled or commit.lost or commit.released):
            raise self.broken("P6 one leader", f"epoch {commit.epoch} wrote after {self.epoch} had begun")
        for shard, placed in commit.taken:
            self._kernel.note("leased", shard.id, shard.todo, placed.name)
        if commit.taken:
            self.hold("P8 newcomer", self.fairness.leased([shard for shard, _ in commit.taken]))
        for shard in commit.lost:
            self._kernel.note("lost", shard.id, shard.todo)
            self._excuse(shard.campaign, ordinals_of(shard.todo))
        for shard in commit.released:
            self._kernel.note("released", shard.id, shard.todo)
            self._excuse(shard.campaign, self._unheard(shard))
        for settled in commit.settled:
            self._settled(settled)

    def leasing(self, shard: ShardRow, placed: Placed, at_work: Mapping[RendererName, str]) -> None:
        """Before the transaction goes on: it may end the campaign. *at_work*: whom the leader may give work."""
        state = self._store.state.campaigns.rows[shard.campaign].row.state
        if state not in (CampaignState.ACTIVE, CampaignState.PROOFING):
            raise self.broken("P9 cancelled", f"shard {shard.id} went to {placed.name}; its campaign is {state}")
        if self.held and any((shard.campaign, ordinal) in self.held for ordinal in ordinals_of(shard.todo)):
            raise self.broken("proof", f"shard {shard.id} is beyond its campaign's proof, and went to {placed.name}")
        self.hold("blame", self.health.leased(shard, placed.name, at_work))

    def _unheard(self, shard: ShardRow) -> list[int]:
        """Ordinals that no living renderer has reported under the fence: for the others a release is no excuse."""
        fence = shard.fence or ""
        return [ordinal for ordinal in ordinals_of(shard.todo) if (shard.id, fence, ordinal) not in self._alive]

    def _settled(self, settled: Settled) -> None:
        shard = settled.shard
        self._balance(settled)
        for outcome in settled.outcomes:
            self._new_outcome(shard, outcome)
        failed = [tried.ordinal for tried in settled.failed_tries if tried.ordinal is not None]
        self._excuse(shard.campaign, failed)
        if not settled.outcomes and not failed and not settled.todo:  # bisected: its lease was lost
            self._excuse(shard.campaign, ordinals_of(shard.todo))
        for ordinal in sorted({*failed, *(o.ordinal for o in settled.outcomes if o.picture_id is None)}):
            attempt = (shard.id, shard.fence or "", ordinal)
            self._alive.discard(attempt)
            seconds = self._seconds.pop(attempt, 0.0)
            self.charged[shard.campaign] = self.charged.get(shard.campaign, 0.0) + seconds
            self._kernel.step("settles", shard.id, ordinal)

    def _balance(self, settled: Settled) -> None:
        before = ordinals_of(settled.shard.todo)
        after = [*ordinals_of(settled.todo), *(outcome.ordinal for outcome in settled.outcomes)]
        for child in settled.children:
            after += ordinals_of(child.todo)
        if sorted(before) != sorted(after):
            raise self.broken("P2 nothing lost", f"shard {settled.shard.id} had {before}, and became {sorted(after)}")

    def _new_outcome(self, shard: ShardRow, outcome: NewOutcome) -> None:
        render = (shard.campaign, int(outcome.ordinal))
        if render in self.outcomes:
            raise self.broken("P1 one outcome", f"render {render} has a second outcome")
        self.outcomes[render] = outcome
        if outcome.picture is not None:
            self.pictures.setdefault((shard.team, outcome.fingerprint), self.commits)
            if self._depot.sha256(outcome.picture.key) != outcome.picture.sha256:
                raise self.broken("P3 object there", f"render {render} succeeded; {outcome.picture.key} is not there")
        self.hold("blame", self.health.outcome(render, outcome))

    def _excuse(self, campaign: int, ordinals: Iterable[int]) -> None:
        """What was begun of them so far may be begun again."""
        for ordinal in ordinals:
            self._excused[campaign, ordinal] = self._starts.get((campaign, ordinal), 0)

    # at the API

    def submitted(self, team: int, campaign: int, held: Sequence[int]) -> None:
        self.fairness.submitted(team)
        self.held.update((campaign, ordinal) for ordinal in held)

    def superseded(self, parent: int) -> None:
        """Its child was submitted while its proof was not approved."""
        if self._store.state.campaigns.rows[parent].row.state is CampaignState.CANCELLING:  # type: ignore[index]
            self.cancelled(parent)

    def approved(self, campaign: int) -> None:
        self.held = {render for render in self.held if render[0] != campaign}

    def cancelled(self, campaign: int) -> None:
        self.cancelled_at.setdefault(campaign, self._kernel.now)

    def compare_teams(self) -> None:
        self.hold("P8 shares", self.fairness.race())
        self._kernel.after(RACE_EVERY, self.compare_teams)

    # at the scheduler

    def offered(self, order: ShardOrder, *, since: int) -> None:
        """*since*: the number of the last commit before the shard was leased."""
        campaign = self._store.state.campaigns.rows[order.campaign]  # type: ignore[index]  # a CampaignId
        resolved, team = campaign.resolved, campaign.row.team
        for row in order.rows:
            render = (order.campaign, row.ordinal)
            known = self.fingerprints.get(render)
            if known is None:
                recipe = recipe_at(resolved, row.ordinal)
                known = self.fingerprints[render] = fingerprint(recipe)
                if recipe != row.recipe:
                    raise self.broken("P11 same recipe", f"the order for render {render} asks for another picture")
            if known != row.fingerprint:
                raise self.broken("P11 same recipe", f"render {render} was {known}, and is {row.fingerprint} now")
            if self.pictures.get((team, known), since + 1) <= since:
                raise self.broken("P12 known", f"render {render} is ordered, and the team has its picture")
