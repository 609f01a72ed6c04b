"""States of limits."""

from states import state
from states_database import cached_key
from testbed import limit_pb2, validation_pb2


def set_limit(testbed, name, *options):
    """Sets a limit of the tenant of the keys."""
    testbed.tenantctl("limit", "set", "--tenant", "ten_acme", "--metric", "requests", name, *options)


def consume_repeatedly(testbed, key, amount, replica=None):
    """Takes an amount repeatedly; any answer is one."""
    stub = testbed.stub("LimitService", replica)
    credential = limit_pb2.LimitCredential(key=validation_pb2.ValidateKeyRequest(key=key))
    costs = [limit_pb2.Cost(metric="requests", amount=amount)]
    request = limit_pb2.ConsumeRequest(credential=credential, costs=costs)

    def consume():
        testbed.calls.append(stub.Consume.future(request, timeout=2, metadata=testbed.authorization()))

    testbed.call_repeatedly(consume)


def wait_for_decisions(replica, result):
    name = "tenant_auth_limit_decisions_total"
    replica.wait_for_metric(name, lambda count: count > 10, result=result)


@state
def limits_undecided(testbed):
    """The database accepts no writes, and the leases are spent."""
    replica = testbed.healthy_replica()
    _, secret = cached_key(testbed)
    set_limit(testbed, "balance", "--credits", "1000000")
    consume_repeatedly(testbed, secret, 1)
    wait_for_decisions(replica, "admitted")
    testbed.databases[0].command("fault writes blocked")
    consume_repeatedly(testbed, secret, 500000)
    wait_for_decisions(replica, "undecided")
    replica.wait_for_status("writes failing", "limits leases are NOT exchanged")
    replica.wait_for_log("leases of limits cannot be exchanged")


@state
def leases_starved(testbed):
    """One replica holds what callers of another one wait for."""
    holder = testbed.healthy_replica()
    _, secret = cached_key(testbed)
    starved = testbed.replica()
    starved.wait_for_status("process ready", "feed live")
    set_limit(testbed, "balance", "--credits", "1000000", "--on-outage", "local-share")
    consume_repeatedly(testbed, secret, 1, holder)
    wait_for_decisions(holder, "admitted")
    consume_repeatedly(testbed, secret, 999000, starved)
    starved.wait_for_metric("tenant_auth_limit_leases_starved_total", lambda count: count > 0)


@state
def shadow_limit_exceeded(testbed):
    """A shadow limit that is used up."""
    replica = testbed.healthy_replica()
    _, secret = cached_key(testbed)
    set_limit(testbed, "trial", "--credits", "1", "--shadow")
    consume_repeatedly(testbed, secret, 1)
    wait_for_decisions(replica, "shadow_exceeded")
