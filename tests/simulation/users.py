"""People: they submit, change their minds, and repeat what got no answer."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

from farm.core.errors import BadRequest, Conflict, StoreDown
from farm.core.ids import CampaignId, TeamId
from farm.core.records import CampaignRow
from farm.ports import TeamTx
from farm.usecases.amend_campaign import amend_campaign
from farm.usecases.approve_campaign import approve_campaign
from farm.usecases.check_campaign import Terms
from farm.usecases.move_campaign import cancel_campaign, pause_campaign, resume_campaign
from farm.usecases.reorder_queue import reorder_queue
from farm.usecases.retry_failed import retry_failed
from farm.usecases.submit_campaign import Submitted, submit_campaign
from schemas.campaign import Budget, CampaignAmend, CampaignMove, CampaignSpec, CampaignState, PausedBy
from tests.simulation.database import TeamDatabase
from tests.simulation.kernel import Kernel, moment
from tests.simulation.library import changed, draw_campaign
from tests.simulation.promises import Promises

S = CampaignState


class Clock:
    """The wall clock of an API process. It may jump."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.off = 0.0

    def now(self) -> datetime:
        return moment(self._kernel.now + self.off)

    def random_bits(self) -> int:
        return self._kernel.random.getrandbits(32)


class User:
    """One team's. *renders* is how many it will submit in all, *until* when at the latest."""

    def __init__(
        self,
        kernel: Kernel,
        team: TeamId,
        database: TeamDatabase,
        promises: Promises,
        terms: Terms,
        *,
        renders: int,
        pause: float,
        until: float,
        gpus: tuple[str, ...],
    ) -> None:
        self._kernel, self.team, self._database, self._promises = kernel, team, database, promises
        self._terms, self._left, self._pause, self._until, self._gpus = terms, renders, pause, until, gpus
        self.clock = Clock(kernel)
        self.campaigns: list[CampaignId] = []
        self.by_key: dict[str, CampaignId] = {}
        self.line = database.line
        self.calm = False
        self._submitted = 0
        self._share = renders

    # submitting

    def work(self) -> None:
        """Submits something, and comes back for more."""
        if self._left <= 0 or self._kernel.now > self._until:
            return
        self._submitted += 1
        most = max(20, self._share // self._kernel.random.choice((20, 6, 3)))
        key = f"{self.team}-{self._submitted}"
        spec = draw_campaign(self._kernel.random, key, min(most, self._left), self._kernel.now, self._gpus)
        self._submit(spec, key)
        self._kernel.after(self._kernel.random.expovariate(1 / self._pause), self.work)

    def _submit(self, spec: CampaignSpec, key: str) -> None:
        def submit() -> Submitted:
            return submit_campaign(
                self._database,
                self.clock,
                self.team,
                spec,
                self._terms,
                idempotency_key=key,
            )

        self._insist(submit, lambda submitted: self._remember(submitted, key))

    def _remember(self, submitted: Submitted, key: str) -> None:
        campaign = submitted.campaign
        if self.by_key.setdefault(key, campaign.id) != campaign.id:
            raise self._promises.broken("P10 one campaign", f"key {key} made {self.by_key[key]} and {campaign.id}")
        if campaign.id not in self.campaigns:
            self.campaigns.append(campaign.id)
            self._left -= campaign.renders
            self._kernel.note("submitted", self.team, campaign.id, campaign.renders)
            self._kernel.after(self._kernel.random.uniform(1, 40), self._whim, campaign.id)

    # second thoughts

    def _whim(self, campaign: CampaignId) -> None:
        if self.calm:
            return
        whims: tuple[Callable[[CampaignId], None], ...] = (
            self._cancel,
            self._pause_it,
            self._amend,
            self._to_front,
            self._edit,
            self._approve,
            self._retry,
        )
        if self._kernel.random.random() < 0.7:
            self._kernel.random.choice(whims)(campaign)
        self._kernel.after(self._kernel.random.uniform(5, 60), self._whim, campaign)

    def _cancel(self, campaign: CampaignId) -> None:
        if self._kernel.random.random() < 0.8:
            self._insist(lambda: cancel_campaign(self._database, self.team, campaign))

    def _pause_it(self, campaign: CampaignId) -> None:
        self._insist(lambda: pause_campaign(self._database, self.team, campaign))
        self._kernel.after(self._kernel.random.uniform(2, 30), self._resume, campaign)

    def _resume(self, campaign: CampaignId) -> None:
        self._insist(lambda: resume_campaign(self._database, self.team, campaign))

    def _amend(self, campaign: CampaignId) -> None:
        rng = self._kernel.random
        changes = rng.choice(
            (
                CampaignAmend(priority=rng.randrange(101)),
                CampaignAmend(deadline=moment(self._kernel.now + rng.uniform(20, 200))),
                CampaignAmend(budget=Budget(gpu_seconds=rng.uniform(1, 200))),
            )
        )
        self._insist(lambda: amend_campaign(self._database, self.clock, self.team, campaign, changes))

    def _to_front(self, campaign: CampaignId) -> None:
        to = CampaignMove(to=self._kernel.random.choice(("front", "back")))
        self._insist(lambda: reorder_queue(self._database, self.team, campaign, to))

    def _edit(self, campaign: CampaignId) -> None:
        self._submitted += 1
        key = f"{self.team}-{self._submitted}"
        if self._left > 0 and self._kernel.now < self._until:
            with self._quietly() as tx:
                spec = tx.spec(campaign)
            self._submit(changed(self._kernel.random, spec, key, campaign), key)

    def _approve(self, campaign: CampaignId) -> None:
        self._insist(lambda: approve_campaign(self._database, self.team, campaign))

    def _retry(self, campaign: CampaignId) -> None:
        self._submitted += 1
        key = f"{self.team}-{self._submitted}"

        def retry() -> Submitted:
            return retry_failed(
                self._database,
                self.clock,
                self.team,
                campaign,
                self._terms,
                idempotency_key=key,
            )

        if self._left > 0 and self._kernel.now < self._until:
            self._insist(retry, lambda submitted: self._remember(submitted, key))

    # in the calm

    def settle_down(self) -> None:
        """From now on everything that waits for this user gets what it waits for."""
        self.calm = True
        for campaign in self.campaigns:
            row = self._row(campaign)
            if row.state is S.PAUSED and row.paused_by is PausedBy.USER:
                self._resume(campaign)
            elif row.state is S.PAUSED and row.paused_by is PausedBy.BUDGET:
                more = CampaignAmend(budget=Budget(gpu_seconds=1e6))
                self._insist(
                    lambda campaign=campaign, more=more: amend_campaign(  # type: ignore[misc]
                        self._database,
                        self.clock,
                        self.team,
                        campaign,
                        more,
                    )
                )
            elif row.state is S.AWAITING_APPROVAL:
                self._approve(campaign)
        self._kernel.after(3.0, self.settle_down)

    def open_campaigns(self) -> list[CampaignRow]:
        rows = [self._row(campaign) for campaign in self.campaigns]
        return [row for row in rows if row.finished_at is None]

    def _row(self, campaign: CampaignId) -> CampaignRow:
        with self._quietly() as tx:
            return tx.campaign(campaign)

    def _quietly(self) -> AbstractContextManager[TeamTx]:
        """A look behind the scenes: no fault comes between."""
        return self.line.store.as_team(self.team)

    def _insist(self, call: Callable[[], object], done: Callable[..., object] = lambda _: None) -> None:
        """Repeats what got no answer; what was refused is left alone."""
        try:
            answer = call()
        except StoreDown:
            self._kernel.after(self._kernel.random.uniform(0.5, 4.0), self._insist, call, done)
        except (Conflict, BadRequest):
            pass
        else:
            done(answer)
