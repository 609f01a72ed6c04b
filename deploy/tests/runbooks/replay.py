"""What a service with a defect would tell. There is none to be had: a panic that can be provoked from outside is mended.

The metrics are those of a service that runs, with one RPC that ended with INTERNAL beside them. The lines of the log have the words of
the service's source, which the test looks up there.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from deployment import ROOT
from states import state

SOURCE = ROOT / "tenant-auth-svc/src"
SERIES = 'tenant_auth_requests_total{rpc="tenantauth.v1.AdminService/ListKeys",code="INTERNAL"}'


def words_of_the_source():
    """What is logged where a panic is caught, and by the hook."""
    for place, words in {"layer/catch_panic.rs": "a request met a defect and was answered INTERNAL", "cli.rs": "a thread panicked"}.items():
        assert words in (SOURCE / place).read_text(), f"{place} logs something else than {words!r}: see the page of TenantAuthDefects"
        yield words


@state
def defect(world):
    """An RPC met a panic."""
    replica = world.ready()
    log = replica.log.read_text().splitlines()[-1]
    stamp = log.split('"')[3]
    lines = [f'{{"timestamp":"{stamp}","level":"ERROR","message":"{words}"}}\n' for words in words_of_the_source()]
    rpc = '"message":"rpc","rpc":"tenantauth.v1.AdminService/ListKeys","code":"Internal"'
    with replica.log.open("a") as log:
        log.writelines([*lines, f'{{"timestamp":"{stamp}","level":"ERROR",{rpc}}}\n'])
    world.targets.append(serve(world, replica))


def serve(world, replica):
    """Metrics in which the errors grow, at an address of their own."""
    host, errors = replica.host.rsplit(".", 1)[0] + ".250", [0]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            errors[0] += 1
            others = [line for line in replica.get("/metrics").splitlines() if not line.startswith(SERIES)]
            text = "\n".join([*others, f"{SERIES} {errors[0]}", ""]).encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer((host, 50052), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    world.ends.append(server.server_close)
    world.ends.append(server.shutdown)
    return host
