"""What can become of a request, and what the client has to get: the same behind every proxy."""

from dataclasses import dataclass

from browser import bearer


@dataclass(frozen=True)
class Situation:
    """A request, the fault during it, and the expected response."""

    name: str
    status: int
    # The code of the problem; empty if the response is the application's.
    code: str = ""
    # The name of the key that is sent; its plaintext if it is none of the bed's.
    key: str = ""
    path: str = "/orders"
    # The name of a second key.
    other_key: str = ""
    # Set up before the requests through all proxies; they stay until the end.
    fault: str = ""

    @property
    def admitted(self):
        return not self.code

    def headers(self, keys):
        named = [bearer(keys.get(self.key, self.key))] if self.key else []
        return named + ([("X-API-Key", keys[self.other_key])] if self.other_key else [])


# In this order: the faults of the last ones stay.
SITUATIONS = [
    Situation("valid", 200, key="valid"),
    Situation("no key", 401, "NO_CREDENTIALS"),
    Situation("unknown", 401, "UNKNOWN", key="a-key-that-was-never-issued-0001"),
    Situation("malformed", 401, "MALFORMED", key="ta_000000000000000000000000000000000000"),
    Situation("expired", 401, "EXPIRED", key="expired"),
    Situation("revoked", 401, "REVOKED", key="revoked"),
    Situation("disabled", 403, "DISABLED", key="disabled"),
    Situation("tenant suspended", 403, "TENANT_SUSPENDED", key="suspended"),
    Situation("insufficient scope", 403, "INSUFFICIENT_SCOPE", key="valid", path="/billing/invoices"),
    Situation("address not allowed", 403, "ADDRESS_NOT_ALLOWED", key="elsewhere"),
    Situation("two different keys", 400, "AMBIGUOUS_REQUEST", key="valid", other_key="second"),
    Situation("application: 500", 500, key="valid", path="/status/500"),
    Situation("application: 502", 502, key="valid", path="/status/502"),
    Situation("application: 503", 503, key="valid", path="/status/503"),
    Situation("application: 404", 404, key="valid", path="/status/404"),
    Situation("application: 401", 401, key="valid", path="/status/401"),
    Situation("application: 403", 403, key="valid", path="/status/403"),
    Situation("database hung, key not cached", 503, "UNDECIDED", key="not cached", fault="database hung"),
    Situation("database hung, key cached", 200, key="valid"),
    Situation("database gone, key not cached", 503, "UNDECIDED", key="not cached", fault="database gone"),
    Situation("database gone, key cached", 200, key="valid"),
    Situation("service slow", 503, "UNDECIDED", key="valid", fault="service slow"),
    Situation("service no longer slow", 200, key="valid", fault="service continued"),
    Situation("service gone", 503, "UNDECIDED", key="valid", fault="service gone"),
    Situation("service gone, no key", 503, "UNDECIDED"),
]
