"""PromQL in small pieces. Every selector is bound to the namespaces that the reader chose.

A farm outside of Kubernetes has no label ``namespace``; "all" is ``.*``, which matches that as well.
"""

BUSY = 'doing=~"encode|denoise|decode"'
"""What a GPU is paid for."""


def of(metric: str, *matchers: str) -> str:
    """A selector. *matchers* are written as in PromQL."""
    bound = ", ".join(('namespace=~"$namespace"', *matchers))
    return f"{metric}{{{bound}}}"


def rate(metric: str, *matchers: str) -> str:
    """Of a counter, per second."""
    return f"rate({of(metric, *matchers)}[$__rate_interval])"


def increase(metric: str, *matchers: str) -> str:
    """Of a counter, over all the time that is shown."""
    return f"increase({of(metric, *matchers)}[$__range])"


def since_new(metric: str, *matchers: str) -> str:
    """The same where series begin with their first event, which an increase does not count: it needs a value before."""
    series = of(metric, *matchers)
    return f"({series} unless {series} offset $__range) or {increase(metric, *matchers)}"


def total(expression: str, *labels: str) -> str:
    """The sum, for each combination of *labels*."""
    return f"sum by ({', '.join(labels)}) ({expression})" if labels else f"sum({expression})"


def most(expression: str, *labels: str) -> str:
    """The largest, for each combination of *labels*."""
    return f"max by ({', '.join(labels)}) ({expression})" if labels else f"max({expression})"


def share(part: str, whole: str) -> str:
    """Nothing where the whole is 0: a share of nothing is no share."""
    return f"{part} / ({whole} > 0)"


def quantile(q: float, histogram: str, *matchers: str, by: str = "") -> str:
    labels = ("le", by) if by else ("le",)
    return f"histogram_quantile({q}, {total(rate(f'{histogram}_bucket', *matchers), *labels)})"


def in_fleet(expression: str) -> str:
    """Series by renderer get the label ``fleet``; those of other fleets than the chosen ones go."""
    info = of("farm_renderer_info", 'fleet=~"$fleet"')
    return f"{expression} * on (namespace, renderer) group_left (fleet) group by (namespace, renderer, fleet) ({info})"


def money_per_hour(*matchers: str) -> str:
    """What the renderers that are up cost an hour, by fleet. One that waits for its node costs nothing yet."""
    up = total(of("farm_renderers", 'state!="starting"', *matchers), "namespace", "fleet")
    price = most(of("farm_renderer_price_per_hour", *matchers), "namespace", "fleet")
    return f"{up} * on (namespace, fleet) {price}"
