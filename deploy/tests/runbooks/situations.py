"""The six situations of deploy/AT_NIGHT.md: each is set up, and then solved with the page's commands alone."""

import socket
import threading

from states import state
from states_database import known


def pair(world, **variables):
    """Two healthy replicas."""
    first = world.ready(**variables)
    second = world.replica(**variables)
    second.says("process ready", "feed live")
    return first, second


@state
def customers_key(world):
    """A good key was revoked."""
    world.ready()
    key_id, _ = known(world)
    world.tenantctl("key", "revoke", key_id, "--reason", "rotated by mistake")


@state
def read_only(world):
    """The token in use allows only reads; a new one is available."""
    replica = world.ready()
    known(world)
    # The previous, good token is revoked.
    world.write("database-token", "may-only-read\n")
    world.databases[0].do("token the-new-one")
    world.more["NEW_TOKEN"] = "the-new-one"
    replica.says("reads works", "writes failing (read_only)")
    replica.logged("SQLITE_READONLY")


@state
def stale_replica(world):
    """One replica has lost its connection to the database; a key that it has cached was revoked through the other."""
    database = world.database()
    tunnel = Tunnel(database.url)
    world.ends.append(tunnel.cut)
    well = world.replica(database)
    stale = world.replica(database, url=tunnel.url)
    for replica in (well, stale):
        replica.says("process ready", "feed live")
    key_id, secret = world.issue()
    for replica in (well, stale):
        world.learn(secret, replica)
    tunnel.cut()
    stale.says("feed silent", "reads failing")
    world.tenantctl("key", "revoke", key_id, "--reason", "leaked", replica=well)
    world.words["POD"] = stale.name


@state
def usage_wrong(world):
    """A usage total was changed past the service."""
    from tenant_auth.proto import usage_pb2

    world.ready()
    known(world)
    event = usage_pb2.UsageEvent(tenant_id="ten_acme", metric="requests", quantity=7)
    request = usage_pb2.RecordUsageRequest(request_id="seven", events=[event])
    world.stub("UsageService").RecordUsage(request, timeout=30, metadata=world.authorization())
    world.databases[0].sql("UPDATE usage_totals SET quantity = quantity + 1000")


@state
def leaked_key(world):
    """Two replicas have cached a leaked key."""
    replicas = pair(world)
    _, secret = known(world)
    for replica in replicas:
        world.learn(secret, replica)


@state
def grace_of_ten_minutes(world):
    """The database is unreachable, and both replicas have ten minutes left."""
    replicas = pair(world, CACHE_GRACE="10m")
    _, secret = known(world)
    for replica in replicas:
        world.learn(secret, replica)
    world.databases[0].do("stop")
    for replica in replicas:
        replica.says("reads failing (unreachable)", "ends for the oldest in")


class Tunnel:
    """A proxy to a server that can be disconnected, for one replica alone."""

    def __init__(self, url):
        host, port = url.removeprefix("http://").rsplit(":", 1)
        self.to, self.ends = (host, int(port)), []
        self.door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.door.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                here, _ = self.door.accept()
                there = socket.create_connection(self.to)
            except OSError:
                return
            self.ends += [here, there]
            for source, sink in ((here, there), (there, here)):
                threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    def cut(self):
        for one in [self.door, *self.ends]:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()


def pump(source, sink):
    try:
        while piece := source.recv(65_536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@state
def to_restore(world):
    """Two replicas, and a key that was revoked after the backup."""
    pair(world)
    known(world)
    world.databases[0].do("backup")
    world.tenantctl("key", "revoke", world.words["KEY_ID"], "--reason", "leaked")
