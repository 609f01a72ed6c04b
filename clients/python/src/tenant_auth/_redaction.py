"""Redacts keys in the `repr` and `str` of messages, for logs, tracebacks and debuggers."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor, message

from .proto import admin_pb2, limit_pb2, session_pb2, usage_pb2, validation_pb2, watch_pb2

SECRET = frozenset({"key", "plaintext"})
REDACTED = "[redacted]"


def redact() -> None:
    """Patches the generated classes that contain a key, directly or in a nested message."""
    for module in (admin_pb2, limit_pb2, session_pb2, usage_pb2, validation_pb2, watch_pb2):
        for kind in module.DESCRIPTOR.message_types_by_name.values():
            if contains_secrets(kind):
                patch(getattr(module, kind.name))


def contains_secrets(kind: descriptor.Descriptor) -> bool:
    return any(
        is_secret(field) or (field.message_type is not None and contains_secrets(field.message_type))
        for field in kind.fields
    )


def is_secret(field: descriptor.FieldDescriptor) -> bool:
    return field.name in SECRET and field.type == descriptor.FieldDescriptor.TYPE_STRING


def patch(message_class: Any) -> None:
    original = message_class.__str__

    def redacted(self: message.Message) -> str:
        copy = type(self)()
        copy.CopyFrom(self)
        redact_fields(copy)
        return str(original(copy))

    message_class.__repr__ = redacted
    message_class.__str__ = redacted


def redact_fields(part: message.Message) -> None:
    for field, value in part.ListFields():
        if is_secret(field):
            setattr(part, field.name, REDACTED)
        elif field.message_type is not None and contains_secrets(field.message_type):
            for one in (value,) if isinstance(value, message.Message) else value:
                redact_fields(one)
