"""The row of limits."""

from dashboard_panels.promql import gauge, quantile, rate


def limits(board):
    board.row("Limits")
    board.graph(
        "Decisions of limits",
        "Each limit of a request separately. undecided: UNAVAILABLE; a hundredth of all pages. shadow_exceeded: admitted.",
        (rate("tenant_auth_limit_decisions_total", by="result"), "{{result}}"),
        unit="ops",
        stack=True,
    )
    board.graph(
        "Where limits are decided",
        "lease: without the database; local_share: while no lease can be exchanged; outage_policy: not checked.",
        (rate("tenant_auth_limit_decisions_total", by="decided_by"), "{{decided_by}}"),
        unit="ops",
        stack=True,
    )
    board.graph(
        "Exchanges of leases",
        "Transactions with the database, and the leases in them.",
        (rate("tenant_auth_limit_exchanges_total", by="outcome"), "{{outcome}}"),
        (rate("tenant_auth_limit_leases_exchanged_total", by="job"), "leases"),
        unit="ops",
    )
    board.graph(
        "Latency of exchanges",
        "Of those that were committed. Callers wait for one when a lease is spent.",
        *[
            (quantile(share, "tenant_auth_limit_exchange_duration_seconds"), f"{share * 100:g} %")
            for share in (0.5, 0.9, 0.99)
        ],
        unit="s",
    )
    board.graph(
        "Time without an exchange",
        "For which exchanges have failed, by replica. Two minutes are a ticket.",
        (gauge("tenant_auth_limit_exchange_failing_seconds"), "{{instance}}"),
        unit="s",
        limit=120,
    )
    board.graph(
        "Starved leases",
        "Of all leases: those that got less than callers waited for while other replicas held the rest. A tenth is a"
        " ticket.",
        (
            rate("tenant_auth_limit_leases_starved_total", by="job")
            + " / "
            + rate("tenant_auth_limit_leases_exchanged_total", by="job"),
            "starved",
        ),
        unit="percentunit",
        limit=0.1,
        maximum=1,
    )
    board.graph(
        "Counters in memory",
        "One for each limit of a tenant or a key.",
        (gauge("tenant_auth_limit_counters"), "{{instance}}"),
    )
