"""Tenants of the real service, with limits."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration

from conftest import call_stub
from tenant_auth.proto import admin_pb2, info_pb2, limit_pb2

HOUR = limit_pb2.Quota(rolling=Duration(seconds=3_600))


@dataclass(frozen=True)
class Tenant:
    """A tenant that only one test uses, and a key of it."""

    client: Any
    tenant_id: str
    key: str
    key_id: str

    async def set_limit(self, name: str = "hourly", metric: str = "requests", **rule: Any) -> None:
        """Sets a limit of the tenant, by default a quota per hour: `quota=100`."""
        if isinstance(rule.get("quota"), int):
            rule["quota"] = limit_pb2.Quota(amount=rule["quota"], rolling=HOUR.rolling)
        subject = limit_pb2.LimitSubject(tenant_id=self.tenant_id)
        limit = limit_pb2.Limit(subject=subject, name=name, metric=metric, **rule)
        request = admin_pb2.SetLimitRequest(limit=limit)
        changed = await call_stub(self.client.raw.admin.SetLimit, request, timeout=10.0)
        waiting = info_pb2.WaitForRevisionRequest(revision=changed.revision, timeout=Duration(seconds=10))
        assert (await call_stub(self.client.raw.info.WaitForRevision, waiting, timeout=15.0)).applied

    async def revoke(self) -> None:
        request = admin_pb2.RevokeKeyRequest(key_id=self.key_id, reason="test")
        await call_stub(self.client.raw.admin.RevokeKey, request, timeout=10.0)


async def new_tenant(client: Any, *scopes: str) -> Tenant:
    name = f"t{uuid.uuid4().hex[:12]}"
    created = admin_pb2.CreateTenantRequest(tenant_id=name, name=name, plan="pro")
    await call_stub(client.raw.admin.CreateTenant, created, timeout=10.0)
    request = admin_pb2.IssueKeyRequest(tenant_id=name, name="test", scopes=scopes)
    issued = await call_stub(client.raw.admin.IssueKey, request, timeout=10.0)
    return Tenant(client, name, issued.plaintext, issued.key.key_id)
