"""The rows of requests and decisions: what callers see."""

from dashboard_panels.promql import gauge, quantile, rate

PUBLIC_SERVICES = 'grpc_service=~"tenantauth[.]v1[.](Validation|Session|Limit|Usage|Admin)Service"'
RPC = "grpc_service, grpc_method"
RPC_LEGEND = "{{grpc_service}}/{{grpc_method}}"


def service_level(board):
    board.row("Service level")
    for window, limit in [("5m", 14.4), ("1h", 14.4), ("6h", 6), ("3d", 1)]:
        board.stat(
            f"Error budget burn rate, {window}",
            f"How many times too fast the error budget of 99.9 % is spent, over {window}. The higher of requests and"
            " decisions.",
            f'max(job:tenant_auth_sli_errors:ratio_rate{window}{{job="$job"}}) / 0.001',
            steps=((None, "green"), (1, "orange"), (limit, "red")),
        )
    board.stat(
        "Ready",
        "Replicas that accept requests.",
        f"sum({gauge('tenant_auth_ready')})",
        steps=((None, "red"), (1, "green")),
    )
    board.stat(
        "Alerts",
        "Alerts that fire now.",
        'sum(ALERTS{job="$job", alertstate="firing"}) or vector(0)',
        steps=((None, "green"), (1, "red")),
    )
    board.graph(
        "Error ratio",
        "Denials count as good. By sli: requests by their status, decisions by item. The red line is the threshold of"
        " the one-hour page.",
        ('job:tenant_auth_sli_errors:ratio_rate5m{job="$job"}', "{{sli}}, 5m"),
        ('job:tenant_auth_sli_errors:ratio_rate1h{job="$job"}', "{{sli}}, 1h"),
        unit="percentunit",
        limit=0.0144,
    )
    board.graph(
        "Failed requests",
        "By status. Canceled: the caller stopped waiting.",
        (rate("grpc_server_handled_total", 'grpc_code!="OK", ' + PUBLIC_SERVICES, "grpc_code"), "{{grpc_code}}"),
        unit="reqps",
        stack=True,
    )
    board.graph(
        "Load shedding",
        "Requests, and messages of streams, rejected because all permits were in use, or their caller had reached its"
        " share; and the share of permits in use.",
        (
            rate("tenant_auth_requests_shed_total", by="instance, limiter"),
            "{{instance}} {{limiter}} rejected per second",
        ),
        (
            f"{gauge('tenant_auth_request_permits_in_use')} / {gauge('tenant_auth_request_permits')}",
            "{{instance}} {{limiter}} in use (1 = all)",
        ),
    )
    board.graph(
        "Requests by RPC",
        "Completed requests.",
        (rate("grpc_server_handled_total", 'grpc_method=~"$rpc"', RPC), RPC_LEGEND),
        unit="reqps",
        width=12,
    )
    board.graph(
        "Messages by RPC",
        "Messages received and sent; more than one a call are those of streams. And calls started, beside those"
        " completed above.",
        (rate("grpc_server_started_total", 'grpc_method=~"$rpc"', RPC), RPC_LEGEND + " started"),
        (rate("grpc_server_msg_received_total", 'grpc_method=~"$rpc"', RPC), RPC_LEGEND + " received"),
        (rate("grpc_server_msg_sent_total", 'grpc_method=~"$rpc"', RPC), RPC_LEGEND + " sent"),
        unit="ops",
        width=12,
    )
    board.graph(
        "Errors by RPC",
        "The ratio of failed requests of an RPC.",
        (
            rate(
                "grpc_server_handled_total",
                'grpc_method=~"$rpc",'
                ' grpc_code=~"Unavailable|DeadlineExceeded|ResourceExhausted|Internal|Unknown|DataLoss"',
                RPC,
            )
            + " / "
            + rate("grpc_server_handled_total", 'grpc_method=~"$rpc"', RPC),
            RPC_LEGEND,
        ),
        unit="percentunit",
        width=12,
    )
    board.graph(
        "Latency by RPC",
        "99th percentile. Streams are left out: their duration is their whole lifetime.",
        (quantile(0.99, "grpc_server_handling_seconds", 'grpc_method=~"$rpc", grpc_type="unary"', RPC), RPC_LEGEND),
        unit="s",
        width=12,
    )
    board.graph(
        "Latency of ValidateKey",
        "From the request headers to the end of the response.",
        *[
            (
                quantile(
                    share,
                    "grpc_server_handling_seconds",
                    'grpc_service="tenantauth.v1.ValidationService", grpc_method="ValidateKey"',
                ),
                f"{share * 100:g} %",
            )
            for share in (0.5, 0.9, 0.99, 0.999)
        ],
        unit="s",
        width=6,
    )
    board.graph(
        "In flight",
        "RPCs that have started and not ended; streams stay open for long.",
        (f"sum by ({RPC}) ({gauge('tenant_auth_rpcs_in_flight')}) > 0", RPC_LEGEND),
        width=6,
    )
