"""What the commands have in common."""

from __future__ import annotations

from typing import Any

from tenant_auth import TenantAuthError, Validation

Command = dict[str, Any]
Answer = dict[str, Any]


def error_of(error: TenantAuthError) -> Answer:
    return {
        "error": error.code,
        "reason": error.reason,
        "fields": [violation.field for violation in error.violations],
    }


def decision(validation: Validation) -> Answer:
    return {
        "verdict": validation.verdict.name,
        "tenant_id": validation.tenant_id,
        "plan": validation.plan,
        "key_id": validation.key_id,
        "missing_scopes": list(validation.missing_scopes),
        "source": validation.provenance.source.name,
    }


def timeout(command: Command) -> float | None:
    """Zero or absent: the client's default."""
    return command["timeout_ms"] / 1e3 if command.get("timeout_ms") else None


def options(command: Command) -> dict[str, Any]:
    """The keyword arguments of a call about a customer."""
    return {"client_address": command.get("client_address"), "timeout": timeout(command)}
