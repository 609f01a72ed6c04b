"""A pytest plugin: SIGTERM ends the tests as Ctrl-C does, so that fixtures stop the processes that they started."""

import signal


def pytest_configure():
    signal.signal(signal.SIGTERM, interrupt)


def interrupt(*_):
    # A second signal must not interrupt the fixtures' cleanup.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
