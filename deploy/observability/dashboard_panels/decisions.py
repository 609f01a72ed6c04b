"""The row of decisions, and of the cache that answers them."""

from dashboard_panels.promql import gauge, quantile, rate


def decisions(board):
    board.row("Decisions")
    board.graph(
        "Verdicts",
        "Decisions about keys and sessions, each item counted separately. A denial counts as good.",
        (rate("tenant_auth_verdicts_total", by="verdict"), "{{verdict}}"),
        unit="ops",
        stack=True,
    )
    board.graph(
        "Ratio of UNKNOWN",
        "By replica, of all decisions. A surge to a fifth pages: an emptied database causes it, and so do made-up"
        " keys.",
        (
            rate("tenant_auth_verdicts_total", 'verdict="unknown"', "instance")
            + " / "
            + rate("tenant_auth_verdicts_total", by="instance"),
            "{{instance}}",
        ),
        unit="percentunit",
        limit=0.2,
        maximum=1,
    )
    board.graph(
        "Source of answers",
        "fresh, refreshing and stale: the cache; none: the format of the key was enough.",
        (rate("tenant_auth_answers_total", by="source"), "{{source}}"),
        unit="ops",
        stack=True,
    )
    board.graph(
        "Undecided",
        "By the kind of the database's failure; not_tried: there was no permit or no time left.",
        (rate("tenant_auth_undecided_total", by="reason") + " > 0", "{{reason}}"),
        unit="ops",
        stack=True,
    )
    board.graph(
        "Requests at front doors",
        "Of proxies and other HTTP software, by the code of the answer. PROXY_MISCONFIGURED and UNKNOWN_CALLER: the"
        " customers of a proxy are refused until its operator corrects it. More than a twentieth of a door pages.",
        (rate("tenant_auth_front_door_requests_total", by="door, code"), "{{door}} {{code}}"),
        unit="reqps",
        stack=True,
    )
    board.graph(
        "Latency at front doors",
        "99th percentile of the time to answer a request of a proxy.",
        (quantile(0.99, "tenant_auth_front_door_duration_seconds", by="door"), "{{door}}"),
        unit="s",
    )
    board.graph(
        "Answered from the cache",
        "Of all answers that needed a record.",
        (
            rate("tenant_auth_answers_total", 'source=~"fresh|refreshing|stale|negative"')
            + " / "
            + rate("tenant_auth_answers_total", 'source!="none"'),
            "from the cache",
        ),
        (
            rate("tenant_auth_answers_total", 'source="stale"')
            + " / "
            + rate("tenant_auth_answers_total", 'source!="none"'),
            "stale",
        ),
        unit="percentunit",
        maximum=1,
    )
    board.graph(
        "Oldest answer against the grace",
        "Over the last minute. At the grace, cached keys become UNAVAILABLE; four fifths of it page.",
        (gauge("tenant_auth_cache_oldest_answer_age_seconds"), "{{instance}}"),
        (f"max({gauge('tenant_auth_cache_grace_seconds')})", "grace"),
        unit="s",
    )
    board.graph(
        "Time until the grace ends",
        "For the oldest and the median key in use; the whole grace while the database answers reads, negative after its"
        " end.",
        (gauge("tenant_auth_cache_grace_remaining_seconds"), "{{instance}} {{record}}"),
        unit="s",
    )
    board.graph(
        "Beyond the grace",
        "Cached keys that are too old to be used while the database cannot be read.",
        (gauge("tenant_auth_cache_beyond_grace_records"), "{{instance}}"),
    )
    board.graph(
        "Cache misses",
        "Lookups that waited for the database, and loads in flight.",
        (rate("tenant_auth_cache_misses_total", by="cache"), "{{cache}} misses per second"),
        (f"sum by (cache) ({gauge('tenant_auth_cache_loads_in_flight')})", "{{cache}} being loaded"),
    )
    board.graph(
        "Cache in use",
        "Entries, relative to the capacity.",
        (
            f"{gauge('tenant_auth_cache_entries')} / {gauge('tenant_auth_cache_capacity')}",
            "{{instance}} {{cache}} {{kind}}",
        ),
        unit="percentunit",
        width=12,
        maximum=1,
    )
    board.graph(
        "Cache evictions",
        "Entries evicted because the cache was full.",
        (rate("tenant_auth_cache_evictions_total", by="cache, kind"), "{{cache}} {{kind}}"),
        unit="ops",
        width=12,
    )
