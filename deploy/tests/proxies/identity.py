"""What an application may learn about a tenant, and what it may not."""

import base64
import json
import re
from urllib.parse import unquote

from bed import NAME, TENANT

IDENTITY = [
    "x-tenant-id",
    "x-tenant-name",
    "x-tenant-plan",
    "x-tenant-key-id",
    "x-tenant-scopes",
    "x-tenant-scopes-omitted",
    "x-tenant-expires-at",
    "x-tenant-source",
    "x-tenant-principal",
]
SOURCES = {"database", "fresh", "refreshing", "stale"}


def is_principal(token):
    """Whether a principal token is the tenant's. Its signature is checked elsewhere."""
    if not re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token):
        return False
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"] == TENANT


def true_identity(bed, key):
    """The identity headers of a key, decoded, apart from the two that vary from request to request."""
    return {
        "x-tenant-id": TENANT,
        "x-tenant-name": NAME,
        "x-tenant-plan": "pro",
        "x-tenant-key-id": bed.keys[key][0],
        "x-tenant-scopes": "orders:read",
    }


def differences(received, bed, key):
    """What is wrong with a request that reached the application: nothing if it states the identity of the key, once, or
    that of nobody without a key; and if it does not contain the key."""
    identity = received.identity()
    names = [name for name, _ in identity]
    found = [f"{name} arrives {names.count(name)} times" for name in set(names) if names.count(name) > 1]
    found += ["x-api-key arrives"] if received.values("x-api-key") else []
    found += ["a key arrives" for value in received.values("authorization") if "bearer" in value.lower()]
    stated = {name: value for name, value in identity if value}
    if key is None:
        return found + [f"{name}: {value}" for name, value in stated.items()]
    expected = true_identity(bed, key)
    found += [f"{name} is missing" for name in {*expected, "x-tenant-source", "x-tenant-principal"} - stated.keys()]
    for name, value in stated.items():
        if name == "x-tenant-source":
            true = value in SOURCES
        elif name == "x-tenant-principal":
            true = is_principal(value)
        else:
            true = unquote(value) == expected.get(name)
        found += [] if true else [f"{name}: {value}"]
    return found


def check_identity(received, bed, key):
    found = differences(received, bed, key)
    assert not found, (found, received)
