"""The six situations of deploy/AT_NIGHT.md: each is set up, and then solved with the page's commands alone."""

import socket
import threading

from states import state
from states_database import cached_key


def two_replicas(testbed, **variables):
    """Two healthy replicas."""
    first = testbed.healthy_replica(**variables)
    second = testbed.replica(**variables)
    second.wait_for_status("process ready", "feed live")
    return first, second


@state
def key_revoked(testbed):
    """A good key was revoked."""
    testbed.healthy_replica()
    key_id, _ = cached_key(testbed)
    testbed.tenantctl("key", "revoke", key_id, "--reason", "rotated by mistake")


@state
def token_read_only(testbed):
    """The token in use allows only reads; a new one is available."""
    replica = testbed.healthy_replica()
    cached_key(testbed)
    # The previous, good token is revoked.
    testbed.write("database-token", "may-only-read\n")
    testbed.databases[0].command("token the-new-one")
    testbed.extra_environment["NEW_TOKEN"] = "the-new-one"
    replica.wait_for_status("reads works", "writes failing (read_only)")
    replica.wait_for_log("SQLITE_READONLY")


@state
def stale_replica(testbed):
    """One replica has lost its connection to the database; a key that it has cached was revoked through the other."""
    database = testbed.database()
    proxy = TcpProxy(database.url)
    testbed.cleanups.append(proxy.cut)
    healthy = testbed.replica(database)
    stale = testbed.replica(database, url=proxy.url)
    for replica in (healthy, stale):
        replica.wait_for_status("process ready", "feed live")
    key_id, secret = testbed.issue()
    for replica in (healthy, stale):
        testbed.cache_key(secret, replica)
    proxy.cut()
    stale.wait_for_status("feed silent", "reads failing")
    testbed.tenantctl("key", "revoke", key_id, "--reason", "leaked", replica=healthy)
    testbed.placeholders["POD"] = stale.name


@state
def usage_total_wrong(testbed):
    """A usage total was changed past the service."""
    from tenant_auth.proto import usage_pb2

    testbed.healthy_replica()
    cached_key(testbed)
    event = usage_pb2.UsageEvent(tenant_id="ten_acme", metric="requests", quantity=7)
    request = usage_pb2.RecordUsageRequest(request_id="seven", events=[event])
    testbed.stub("UsageService").RecordUsage(request, timeout=30, metadata=testbed.authorization())
    testbed.databases[0].sql("UPDATE usage_totals SET quantity = quantity + 1000")


@state
def leaked_key(testbed):
    """Two replicas have cached a leaked key."""
    replicas = two_replicas(testbed)
    _, secret = cached_key(testbed)
    for replica in replicas:
        testbed.cache_key(secret, replica)


@state
def grace_of_ten_minutes(testbed):
    """The database is unreachable, and both replicas have ten minutes left."""
    replicas = two_replicas(testbed, CACHE_GRACE="10m")
    _, secret = cached_key(testbed)
    for replica in replicas:
        testbed.cache_key(secret, replica)
    testbed.databases[0].command("stop")
    for replica in replicas:
        replica.wait_for_status("reads failing (unreachable)", "ends for the oldest in")


class TcpProxy:
    """A proxy to a server that can be disconnected, for one replica alone."""

    def __init__(self, url):
        host, port = url.removeprefix("http://").rsplit(":", 1)
        self.address, self.sockets = (host, int(port)), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.address)
            except OSError:
                return
            self.sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=forward, args=(source, sink), daemon=True).start()

    def cut(self):
        for each in [self.listener, *self.sockets]:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()


def forward(source, sink):
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@state
def before_restore(testbed):
    """Two replicas, and a key that was revoked after the backup."""
    two_replicas(testbed)
    cached_key(testbed)
    testbed.databases[0].command("backup")
    testbed.tenantctl("key", "revoke", testbed.placeholders["KEY_ID"], "--reason", "leaked")
