"""The callers of a recording: a few calls a second, through the generated stubs of the Python client.

The channel spreads calls over the replicas and reconnects by itself; no call is retried, so that the counters match
the calls that were sent.
"""

import asyncio
import contextlib
import random
import secrets
from dataclasses import dataclass

import grpc
from tenant_auth.proto import admin_pb2, admin_pb2_grpc, session_pb2, session_pb2_grpc
from tenant_auth.proto import usage_pb2, usage_pb2_grpc, validation_pb2, validation_pb2_grpc, watch_pb2, watch_pb2_grpc

# Maximum number of concurrent calls; further ones are not sent, like a caller with a connection pool.
MAX_IN_FLIGHT = 200
TENANTS = ["acme", "globex", "initech"]
OPTIONS = [
    # The list of addresses is not a valid HTTP/2 authority.
    ("grpc.default_authority", "tenant-auth"),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


@dataclass(frozen=True)
class TrafficMix:
    """Calls per second of each kind, over all replicas."""

    validations: float = 0
    # The ratio of validations with an unknown key: a typing error, a key of another system.
    unknown_ratio: float = 0.01
    batches: float = 0
    batch_size: int = 20
    session_checks: float = 0
    binds: float = 0
    usage: float = 0
    usage_events: int = 5
    # A key is issued, and the previous one revoked.
    rotations: float = 0
    # Unknown keys, in batches of `unknown_batch_size`; and calls without a token, and with a wrong one.
    unknown_batches: float = 0
    unknown_batch_size: int = 250
    unauthenticated: float = 0
    watchers: int = 1


QUIET = TrafficMix(validations=0.1, usage=0.02, session_checks=0.02, binds=0.002, rotations=0.001)
ORDINARY = TrafficMix(validations=2, batches=0.2, session_checks=0.5, binds=0.1, usage=0.5, rotations=1 / 60)


class Traffic:
    def __init__(self, replicas, token):
        addresses = ",".join(f"127.0.0.1:{replica.grpc}" for replica in replicas)
        self.channel = grpc.aio.insecure_channel(f"ipv4:{addresses}", options=OPTIONS)
        self.metadata = [("authorization", f"Bearer {token}")]
        self.admin = admin_pb2_grpc.AdminServiceStub(self.channel)
        self.sessions = session_pb2_grpc.SessionServiceStub(self.channel)
        self.usage = usage_pb2_grpc.UsageServiceStub(self.channel)
        self.validation = validation_pb2_grpc.ValidationServiceStub(self.channel)
        self.watch = watch_pb2_grpc.WatchServiceStub(self.channel)
        self.random = random.Random(7)
        self.keys, self.bound, self.issued = [], [], []
        self.in_flight, self.tasks = set(), []
        self.codes = {}

    async def prepare(self, keys):
        """Creates tenants and keys, all of them good."""
        for tenant in TENANTS:
            request = admin_pb2.CreateTenantRequest(tenant_id=tenant, name=tenant, plan="pro")
            await self.admin.CreateTenant(request, metadata=self.metadata, timeout=60, wait_for_ready=True)
        for number in range(keys):
            reply = await self.admin.IssueKey(self.new_key(number), metadata=self.metadata, timeout=60)
            self.keys.append(reply.plaintext)

    def new_key(self, number):
        return admin_pb2.IssueKeyRequest(
            tenant_id=TENANTS[number % len(TENANTS)], name=f"key {number}", scopes=["read"]
        )

    def start(self, mix):
        """Sends these calls from now on, until `stop`."""
        kinds = [
            (mix.validations, lambda: self.validate(mix.unknown_ratio)),
            (mix.batches, lambda: self.validate_batch([self.pick_key() for _ in range(mix.batch_size)])),
            (mix.session_checks, self.check_session),
            (mix.binds, self.bind),
            (mix.usage, lambda: self.record(mix.usage_events)),
            (mix.rotations, self.rotate),
            (mix.unknown_batches, lambda: self.validate_batch([unknown_key() for _ in range(mix.unknown_batch_size)])),
            (mix.unauthenticated, self.call_unauthenticated),
        ]
        self.tasks += [asyncio.create_task(self.repeat(rate, call)) for rate, call in kinds if rate]
        self.tasks += [asyncio.create_task(self.watch_changes()) for _ in range(mix.watchers)]

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    async def end(self):
        await self.stop()
        await asyncio.gather(*self.in_flight, return_exceptions=True)
        await self.channel.close()

    async def repeat(self, rate, call):
        """Starts a call at every tick, whatever happened to the previous one: callers do not wait for each other."""
        while True:
            await asyncio.sleep(self.random.expovariate(rate))
            if len(self.in_flight) < MAX_IN_FLIGHT:
                task = asyncio.create_task(self.count(call()))
                self.in_flight.add(task)
                task.add_done_callback(self.in_flight.discard)

    async def count(self, call):
        try:
            await call
            code = "OK"
        except grpc.aio.AioRpcError as error:
            code = error.code().name
        self.codes[code] = self.codes.get(code, 0) + 1

    def pick_key(self):
        """Some keys are used much more than others."""
        return self.keys[int(len(self.keys) * self.random.random() ** 3)]

    async def validate(self, unknown_ratio):
        key = unknown_key() if self.random.random() < unknown_ratio else self.pick_key()
        request = validation_pb2.ValidateKeyRequest(key=key, required_scopes=["read"])
        await self.validation.ValidateKey(request, metadata=self.metadata, timeout=1)

    async def validate_batch(self, keys):
        requests = [validation_pb2.ValidateKeyRequest(key=key) for key in keys]
        request = validation_pb2.BatchValidateKeysRequest(requests=requests)
        await self.validation.BatchValidateKeys(request, metadata=self.metadata, timeout=1)

    async def bind(self):
        session = f"session-{secrets.token_hex(8)}"
        request = session_pb2.BindSessionRequest(session_id=session, key=self.pick_key(), expiry="SESSION_EXPIRY_FIXED")
        request.ttl.seconds = 3600
        await self.sessions.BindSession(request, metadata=self.metadata, timeout=5)
        self.bound = [*self.bound[-200:], session]

    async def check_session(self):
        if not self.bound:
            return
        request = validation_pb2.ValidateSessionRequest(session_id=self.random.choice(self.bound))
        await self.validation.ValidateSession(request, metadata=self.metadata, timeout=1)

    async def record(self, events):
        request = usage_pb2.RecordUsageRequest(request_id=secrets.token_hex(16))
        for _ in range(events):
            event = request.events.add(tenant_id=self.random.choice(TENANTS), metric="api.calls", quantity=1)
            event.occurred_at.GetCurrentTime()
        await self.usage.RecordUsage(request, metadata=self.metadata, timeout=5)

    async def rotate(self):
        reply = await self.admin.IssueKey(self.new_key(self.random.randrange(3)), metadata=self.metadata, timeout=5)
        old, self.issued = self.issued, [reply.key.key_id]
        for key_id in old:
            request = admin_pb2.RevokeKeyRequest(key_id=key_id, reason="rotated")
            await self.admin.RevokeKey(request, metadata=self.metadata, timeout=5)

    async def call_unauthenticated(self):
        metadata = self.random.choice([[], [("authorization", "Bearer nobody")]])
        request = validation_pb2.ValidateKeyRequest(key=unknown_key())
        await self.validation.ValidateKey(request, metadata=metadata, timeout=1)

    async def watch_changes(self):
        """Subscribes to the invalidations, and again when the stream ends."""
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for _ in self.watch.Watch(watch_pb2.WatchRequest(), metadata=self.metadata):
                    pass
            await asyncio.sleep(1)


def unknown_key():
    """A key in the format of another system, which only a database lookup can distinguish from a good one."""
    return f"sk_live_{secrets.token_hex(12)}"
