"""Results of both clients with the real service: denials, own changes, and redaction of keys."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import traceback
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from conftest import Connect, call_stub
from service import Service, dev
from tenant_auth import DeniedError, InvalidRequestError, NearCache, TenantAuthError, Validation, Verdict
from tenant_auth.proto import admin_pb2, session_pb2, validation_pb2
from tenant_auth.testing import ManualClock

Stub = Callable[..., Any]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with dev(tmp_path_factory.mktemp("answers")) as service:
        yield service


async def issue(client: Any, service: Service, *scopes: str) -> Any:
    request = admin_pb2.IssueKeyRequest(tenant_id=service.tenant, name="test", scopes=scopes)
    return await call_stub(client.raw.admin.IssueKey, request)


async def test_require_returns_principal_or_raises_denial(connect: Connect, service: Service) -> None:
    client = connect(service.endpoint)
    principal = await client.require_key(service.key, "demo:read")
    assert principal.tenant_id == service.tenant
    with pytest.raises(DeniedError) as caught:
        await client.require_key(service.key, ["demo:read", "z"])
    assert (caught.value.verdict, caught.value.missing_scopes) == (Verdict.INSUFFICIENT_SCOPE, ("z",))
    assert caught.value.provenance.revision > 0
    assert not isinstance(caught.value, TenantAuthError), "a denial is not an error"
    with pytest.raises(DeniedError, match="UNKNOWN"):
        await client.require_key("unknown-key")
    session_id = uuid.uuid4().hex
    with pytest.raises(DeniedError, match="UNBOUND"):
        await client.require_session(session_id, service.key)
    binding = await client.bind_session(session_id, service.key, 60)
    assert (await client.require_session(session_id, service.key, "demo:read")).key_id == principal.key_id
    for answer in (binding, await client.validate_key(service.key), await client.validate_session(session_id)):
        with pytest.raises(TypeError, match="has no truth value"):
            bool(answer)


async def test_scope_given_as_text_is_one_scope(connect: Connect, service: Service) -> None:
    for near in (NearCache(), None):
        client = connect(service.endpoint, near_cache=near)
        assert (await client.validate_key(service.key, "demo:read")).is_valid
        assert (await client.validate_keys([service.key], "demo:read"))[0].is_valid
        assert (await client.validate_key(service.key, "no:such")).missing_scopes == ("no:such",)


async def test_each_batch_item_has_its_own_outcome(connect: Connect, service: Service) -> None:
    client = connect(service.endpoint)
    outcomes = await client.validate_keys([service.key, "x" * 20_000, "", service.key])
    assert [type(outcome) for outcome in outcomes] == [Validation, InvalidRequestError, InvalidRequestError, Validation]
    # Each of these keys could be sent alone, but all of them together exceed the message limit of the service.
    outcomes = await client.validate_keys(["x" * 10_000] * 200 + [service.key])
    assert [type(outcome) for outcome in outcomes] == [InvalidRequestError] * 200 + [Validation]


OWN_CHANGES: dict[str, Any] = {
    "revoke": lambda issued: ("RevokeKey", admin_pb2.RevokeKeyRequest(key_id=issued.key.key_id, reason="test")),
    "rotate": lambda issued: ("RotateKey", admin_pb2.RotateKeyRequest(key_id=issued.key.key_id)),
    "suspend": lambda issued: (
        "SuspendTenant",
        admin_pb2.SuspendTenantRequest(tenant_id=issued.key.tenant_id, reason="test"),
    ),
    "disable": lambda issued: (
        "UpdateKey",
        admin_pb2.UpdateKeyRequest(key_id=issued.key.key_id, update_mask=FieldMask(paths=["enabled"])),
    ),
    "limit to networks": lambda issued: (
        "UpdateKey",
        admin_pb2.UpdateKeyRequest(
            key_id=issued.key.key_id,
            update_mask=FieldMask(paths=["allowed_networks"]),
            allowed_networks=["192.0.2.0/24"],
        ),
    ),
    "change the plan": lambda issued: (
        "UpdateTenant",
        admin_pb2.UpdateTenantRequest(
            tenant_id=issued.key.tenant_id, update_mask=FieldMask(paths=["plan"]), plan="changed"
        ),
    ),
    "report a leak": lambda issued: (
        "ReportLeak",
        admin_pb2.ReportLeakRequest(plaintext=issued.plaintext, source="test"),
    ),
    "accept the database": lambda _: ("AcceptDatabase", admin_pb2.AcceptDatabaseRequest(reason="test")),
}

VERDICTS = {
    "revoke": Verdict.REVOKED,
    "disable": Verdict.DISABLED,
    "limit to networks": Verdict.ADDRESS_REQUIRED,
}


@pytest.mark.parametrize("change", OWN_CHANGES)
async def test_own_changes_invalidate_the_near_cache(connect: Connect, service: Service, change: str) -> None:
    # The clock does not advance and there is no watch stream: only the change itself can invalidate the cache.
    client = connect(service.endpoint, clock=ManualClock(), near_cache=NearCache(watch=False))
    issued = await issue(client, service)
    session_id = uuid.uuid4().hex
    await client.bind_session(session_id, issued.plaintext, 60)
    assert (await client.validate_key(issued.plaintext)).is_valid
    assert (await client.validate_session(session_id, issued.plaintext)).is_valid
    stub, request = OWN_CHANGES[change](issued)
    await call_stub(getattr(client.raw.admin, stub), request)
    after = await client.validate_key(issued.plaintext)
    assert after.provenance.source.name != "NEAR"
    assert (await client.validate_session(session_id, issued.plaintext)).provenance.source.name != "NEAR"
    if change == "suspend":
        assert after.verdict is Verdict.TENANT_SUSPENDED
        await call_stub(client.raw.admin.ResumeTenant, admin_pb2.ResumeTenantRequest(tenant_id=service.tenant))
        assert (await client.validate_key(issued.plaintext)).is_valid
    elif change in VERDICTS:
        assert after.verdict is VERDICTS[change]
    elif change == "change the plan":
        assert after.plan == "changed"


async def test_own_deletion_invalidates_the_near_cache(connect: Connect, service: Service) -> None:
    client = connect(service.endpoint, clock=ManualClock(), near_cache=NearCache(watch=False))
    admin, tenant = client.raw.admin, f"deleted-{uuid.uuid4().hex}"
    await call_stub(admin.CreateTenant, admin_pb2.CreateTenantRequest(tenant_id=tenant, name="test", plan="free"))
    issued = await call_stub(admin.IssueKey, admin_pb2.IssueKeyRequest(tenant_id=tenant, name="test"))
    await call_stub(admin.SuspendTenant, admin_pb2.SuspendTenantRequest(tenant_id=tenant, reason="test"))
    for _ in range(2):
        assert (await client.validate_key(issued.plaintext)).verdict is Verdict.TENANT_SUSPENDED
    request = admin_pb2.DeleteTenantRequest(tenant_id=tenant, reason="test")
    while not (await call_stub(admin.DeleteTenant, request)).complete:
        pass
    assert (await client.validate_key(issued.plaintext)).verdict is Verdict.UNKNOWN


async def test_stub_and_failed_unbind_invalidate_the_near_cache(connect: Connect, service: Service) -> None:
    client = connect(service.endpoint, clock=ManualClock(), near_cache=NearCache(watch=False))
    session_id = uuid.uuid4().hex
    await client.bind_session(session_id, service.key, 60)
    for _ in range(2):
        assert (await client.validate_session(session_id)).is_valid
    with pytest.raises(TenantAuthError):
        await client.unbind_session(session_id, "no such tenant")
    assert (await client.validate_session(session_id)).provenance.source.name != "NEAR"
    request = session_pb2.UnbindSessionRequest(session_id=session_id, tenant_id=service.tenant)
    assert (await call_stub(client.raw.session.UnbindSession, request)).was_bound
    assert (await client.validate_session(session_id)).verdict is Verdict.UNBOUND


async def test_stubs_raise_client_errors(connect: Connect, service: Service) -> None:
    client = connect(service.endpoint)
    with pytest.raises(TenantAuthError) as caught:
        await call_stub(client.raw.admin.GetTenant, admin_pb2.GetTenantRequest(tenant_id="nobody"))
    assert caught.value.code == "NOT_FOUND"
    assert caught.value.request_id


async def test_stub_stream_returns_an_answer_per_request(connect: Connect, service: Service) -> None:
    client = connect(service.endpoint)
    messages = [
        validation_pb2.StreamValidateKeysRequest(
            correlation_id=number, request=validation_pb2.ValidateKeyRequest(key=service.key)
        )
        for number in (1, 2)
    ]
    if hasattr(client, "client"):
        answers = await client.run(lambda: list(client.raw.validation.StreamValidateKeys(iter(messages))))
    else:

        async def requests() -> Any:
            for one in messages:
                yield one

        answers = [answer async for answer in client.raw.validation.StreamValidateKeys(requests())]
    assert sorted(answer.correlation_id for answer in answers) == [1, 2]


async def test_messages_never_show_keys(connect: Connect, service: Service) -> None:
    client = connect(service.endpoint)
    issued = await issue(client, service)
    rotated = await call_stub(client.raw.admin.RotateKey, admin_pb2.RotateKeyRequest(key_id=issued.key.key_id))
    key = "ta_canary_0123456789abcdef"
    one = validation_pb2.ValidateKeyRequest(key=key)
    printed: list[object] = [
        one,
        validation_pb2.BatchValidateKeysRequest(requests=[one]),
        validation_pb2.StreamValidateKeysRequest(request=one),
        validation_pb2.ValidateSessionRequest(session_id="s", key=key),
        session_pb2.BindSessionRequest(session_id="s", key=key),
        issued,
        rotated,
    ]
    secrets = (key, issued.plaintext, rotated.plaintext)
    for message in printed:
        text = f"{message} {message!r} {[message]!r}"
        assert "[redacted]" in text
        assert not [secret for secret in secrets if secret in text], type(message)
    assert issued.key.key_id in repr(issued)
    with pytest.raises(TenantAuthError) as caught:
        await call_stub(
            client.raw.session.BindSession, session_pb2.BindSessionRequest(session_id="a b", key=issued.plaintext)
        )
    assert issued.plaintext not in "".join(traceback.format_exception(caught.value))


async def test_results_can_be_copied_and_pickled(connect: Connect, service: Service) -> None:
    client = connect(service.endpoint)
    session_id = uuid.uuid4().hex
    await client.bind_session(session_id, service.key, 60, attributes={"a": "b"})
    for answer in (await client.validate_session(session_id), await client.validate_key(service.key)):
        assert copy.deepcopy(answer) == answer
        assert pickle.loads(pickle.dumps(answer)) == answer  # noqa: S301
        assert json.loads(json.dumps(dataclasses.asdict(answer), default=str))["tenant_id"] == service.tenant
