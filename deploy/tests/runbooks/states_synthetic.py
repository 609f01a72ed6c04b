"""Metrics and logs of states that a test cannot cause, or would have to wait too long for.

A service with a defect: none is known, because a panic that can be provoked from outside gets fixed. The metrics are
those of a running service, plus one RPC that ended with Internal. The log lines use the messages of the service's
source, which the test checks there.

A service that has compared its usage totals: it does that at a random time within the first hour. The totals in its
database are really wrong; only the gauge is added to its metrics.
"""

import contextlib
import itertools
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from states import state
from states_at_night import usage_total_wrong
from testbed import HOSTS, LOOPBACK_NET

from deployment import ROOT

SOURCE = ROOT / "tenant-auth-svc/src"
SERIES = (
    'grpc_server_handled_total{grpc_type="unary",grpc_service="tenantauth.v1.AdminService",'
    'grpc_method="ListKeys",grpc_code="Internal"}'
)


def panic_log_messages():
    """The log lines of a caught panic, and of the panic hook."""
    for path, message in {
        "middleware/catch_panic.rs": "request handler panicked, answered INTERNAL",
        "cli.rs": "a thread panicked",
    }.items():
        assert message in (SOURCE / path).read_text(), (
            f"{path} does not log {message!r}: see the page of TenantAuthInternalErrors"
        )
        yield message


@state
def internal_errors(testbed):
    """An RPC met a panic."""
    replica = testbed.healthy_replica()
    log = replica.log.read_text().splitlines()[-1]
    stamp = log.split('"')[3]
    lines = [f'{{"timestamp":"{stamp}","level":"ERROR","message":"{message}"}}\n' for message in panic_log_messages()]
    method = '"rpc.method":"tenantauth.v1.AdminService/ListKeys"'
    rpc = f'"message":"rpc handled",{method},"rpc.response.status_code":"INTERNAL"'
    with replica.log.open("a") as log:
        log.writelines([*lines, f'{{"timestamp":"{stamp}","level":"ERROR",{rpc}}}\n'])
    errors = itertools.count(1)
    testbed.targets.append(serve(testbed, replica, lambda: {SERIES: next(errors)}))


@state
def totals_mismatched(testbed):
    """Usage totals were compared, and one of them is not the sum of its events."""
    usage_total_wrong(testbed)
    now = time.time()
    found = {"tenant_auth_usage_totals_mismatched": 1, "tenant_auth_usage_last_reconciled_timestamp_seconds": now}
    for name in found:
        assert testbed.replicas[0].metric(name) == 0, f"{name} is not a metric of the service"
    testbed.targets.append(serve(testbed, testbed.replicas[0], lambda: found))


def serve(testbed, replica, changed_series):
    """A replica's metrics with changed values for some series, served at a separate address."""
    host = f"{LOOPBACK_NET}.{next(HOSTS)}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            values = changed_series()
            others = [line for line in replica.get("/metrics").splitlines() if not line.startswith(tuple(values))]
            text = "\n".join([*others, *(f"{name} {value}" for name, value in values.items()), ""]).encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(text)))
            # A scrape that takes too long is aborted.
            with contextlib.suppress(ConnectionError):
                self.end_headers()
                self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer((host, 50052), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    testbed.cleanups.append(server.server_close)
    testbed.cleanups.append(server.shutdown)
    return host
