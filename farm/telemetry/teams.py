"""What teams ask for, get and spend. The label ``team`` is its name."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from farm.telemetry.shown import from_zero


class TeamMetrics:
    """*view* is the registry of what only a leader knows; what counts up goes into *registry*."""

    def __init__(self, registry: CollectorRegistry, view: CollectorRegistry) -> None:
        self.gpu_seconds = Counter(
            "farm_charged_gpu_seconds_total",
            "GPU seconds charged, of failed tries too.",
            ["team", "fleet"],
            registry=registry,
        )
        self.money = Counter(
            "farm_charged_money_total", "What those cost, in the farm's currency.", ["team", "fleet"], registry=registry
        )
        self.renders = Counter(
            "farm_team_renders_total",
            "Renders of a team with an outcome: succeeded, failed, or reused from an earlier campaign.",
            ["team", "outcome"],
            registry=registry,
        )
        self._add_share(view)
        self._add_campaigns(registry, view)

    def _add_share(self, view: CollectorRegistry) -> None:
        """What each gets now, and what it waits for."""
        self.renderers = Gauge("farm_team_renderers", "Renderers that work for a team.", ["team"], registry=view)
        self.weight = Gauge("farm_team_weight", "Its weight in the share of GPU time.", ["team"], registry=view)
        self.queue_renders = Gauge(
            "farm_team_queue_renders", "Renders ready to be made, of a team.", ["team"], registry=view
        )
        self.queue_gpu_seconds = Gauge(
            "farm_team_queue_gpu_seconds", "GPU seconds that those are expected to take.", ["team"], registry=view
        )
        self.oldest_wait = Gauge(
            "farm_team_oldest_wait_seconds",
            "How long its shard has been ready that waits longest.",
            ["team"],
            registry=view,
        )

    def _add_campaigns(self, registry: CollectorRegistry, view: CollectorRegistry) -> None:
        """How campaigns and budgets stand."""
        self.budget_used = Gauge(
            "farm_team_budget_used_ratio",
            "Share of its budget of the month that is spent; teams without a budget have none.",
            ["team"],
            registry=view,
        )
        self.campaigns = Gauge(
            "farm_campaigns",
            "Campaigns under way by state: active, proofing, awaiting_approval, paused.",
            ["state"],
            registry=view,
        )
        self.late = Gauge("farm_campaigns_deadline_at_risk", "Campaigns that will miss their deadline.", registry=view)
        self.budget_near = Gauge(
            "farm_campaigns_budget_near", "Campaigns that have spent most of their budget, or all of it.", registry=view
        )
        self.warnings = Counter(
            "farm_campaign_warnings_total",
            "Warnings by code: deadline_at_risk, budget_near, budget_spent, team_budget_near.",
            ["code"],
            registry=registry,
        )
        from_zero(self.warnings, ("deadline_at_risk", "budget_near", "budget_spent", "team_budget_near"))
