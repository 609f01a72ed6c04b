"""`deploy/check` collects this folder too, but has no proxies: only `deploy/proxies/check` runs these tests."""

import os

if "PROXIES_UNPACKED" in os.environ:
    pytest_plugins = ["proxy_fixtures"]
else:
    collect_ignore_glob = ["test_*.py"]
