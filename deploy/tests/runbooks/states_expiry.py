"""States in which a certificate or the database's token is about to expire."""

import base64
import json
import time

from services import Database
from states import state

from deployment import run, succeeded

DAY = 86_400
# Valid for a year, of which two and a half hours are left: both alerts of each kind fire.
LIFETIME, LEFT = 365 * DAY, 9_000

CA_CONFIG = """\
[ca]
default_ca = test_ca
[test_ca]
new_certs_dir = .
database = index
rand_serial = yes
default_md = sha256
policy = any_name
x509_extensions = extensions
[any_name]
commonName = supplied
[extensions]
subjectAltName = DNS:tenant-auth
"""


@state
def certificate_expiring(testbed):
    """The server's certificate has two hours left."""
    folder = testbed.folder
    (folder / "ca.conf").write_text(CA_CONFIG)
    (folder / "index").touch()
    dates_of_validity = [
        time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + offset)) for offset in (LEFT - LIFETIME, LEFT)
    ]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    request = ["-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=tenant-auth"]
    succeeded(run("openssl", "req", "-new", *curve, *request, cwd=folder))
    dates = ["-startdate", dates_of_validity[0], "-enddate", dates_of_validity[1]]
    files = ["-keyfile", "server.key", "-in", "server.csr", "-out", "server.crt", "-notext"]
    succeeded(run("openssl", "ca", "-batch", "-selfsign", "-config", "ca.conf", *dates, *files, cwd=folder))
    testbed.placeholders |= {"FILE": str(folder / "server.crt"), "NAME": "tenant-auth-tls"}
    replica = testbed.replica(TLS_CERT_FILE=folder / "server.crt", TLS_KEY_FILE=folder / "server.key")
    replica.wait_for_status("process ready", "server certificate expires at")


def token(issued, expires):
    """A token with an expiry, for a database that accepts any token: it is unsigned."""
    parts = [{"alg": "EdDSA"}, {"a": "rw", "iat": int(issued), "exp": int(expires)}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


@state
def token_expiring(testbed):
    """The database's token has two hours left, and a new one is next to it."""
    now = time.time()
    testbed.databases.append(Database())
    testbed.write("database-token", token(now + LEFT - LIFETIME, now + LEFT))
    testbed.write("token.new", token(now, now + 90 * DAY + 3_600))
    replica = testbed.replica()
    replica.wait_for_status("process ready", "database token for reads expires at", "in 2 h")
