"""Registration of the states, and the list of them."""

STATES = {}


def state(build):
    """Registers a state: it is named after the function that sets it up, in a testbed of its own."""
    STATES[build.__name__] = build
    return build
