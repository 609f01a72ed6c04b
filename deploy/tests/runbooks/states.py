"""What every state is made with, and the list of them."""

STATES = {}


def state(build):
    """Registers a state: its name is that of the function that sets it up, in a world of its own."""
    STATES[build.__name__] = build
    return build
