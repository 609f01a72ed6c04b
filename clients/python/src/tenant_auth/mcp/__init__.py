"""Keys, policies, sessions and usage for MCP servers, of all revisions of the protocol."""

from ._context import current_limits, current_principal
from ._gate import McpGate
from ._handles import Handles, UnknownHandleError
from ._policy import Policy
from ._protect import GateOptions, protect
from ._request import McpRequest

__all__ = [
    "GateOptions",
    "Handles",
    "McpGate",
    "McpRequest",
    "Policy",
    "UnknownHandleError",
    "current_limits",
    "current_principal",
    "protect",
]
