"""What the requests to an adapter cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from . import _checks
from .limits import Costs
from .usage import METRIC

R = TypeVar("R")
MAX_COSTS = 16
MAX_AMOUNT = 10**9


class CostSource(Generic[R]):
    """The same costs for every request, or a function that returns those of one request."""

    def __init__(self, costs: Costs | Callable[[R], Costs] | None) -> None:
        self.is_set = costs is not None
        """Whether requests may cost something."""
        self._function: Callable[[R], Costs] | None = None
        self._fixed: Costs = {}
        if callable(costs):
            _checks.sync_function("costs", costs)
            self._function = costs
        elif costs is not None:
            self._fixed = fixed(costs)

    def of(self, request: R) -> Costs:
        """Returns the costs; empty: the request costs nothing and is only validated."""
        return self._fixed if self._function is None else self._function(request)


def fixed(costs: Costs) -> Costs:
    """Checks costs that all requests have. Those of a function are checked by the service."""
    if not isinstance(costs, Mapping):
        kind = type(costs).__name__
        raise TypeError(f'costs is {kind}: give amounts by metric, such as {{"requests": 1}}, or a function')
    if not 1 <= len(costs) <= MAX_COSTS:
        raise ValueError(f"costs has {len(costs)} metrics: give 1 to {MAX_COSTS}")
    for metric, amount in costs.items():
        if not isinstance(metric, str) or not METRIC.fullmatch(metric):
            raise ValueError(
                f"costs has the metric {metric!r}: give a lower-case letter, then up to 63 characters of a-z 0-9 _ ."
            )
        _checks.count(f"costs[{metric!r}]", amount, 1, MAX_AMOUNT)
    return dict(costs)
