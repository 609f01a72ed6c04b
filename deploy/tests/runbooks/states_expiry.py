"""States in which a certificate or the database's token is about to expire."""

import base64
import json
import time

from deployment import run, succeeded
from services import Database
from states import state

DAY = 86_400
# Valid for a year, of which two and a half hours are left: both alerts of each kind fire.
LIFETIME, LEFT = 365 * DAY, 9_000

AUTHORITY = """\
[ca]
default_ca = here
[here]
new_certs_dir = .
database = index
rand_serial = yes
default_md = sha256
policy = anybody
x509_extensions = names
[anybody]
commonName = supplied
[names]
subjectAltName = DNS:tenant-auth
"""


@state
def certificate_ends(world):
    """The server's certificate has two hours left."""
    folder = world.folder
    (folder / "authority.conf").write_text(AUTHORITY)
    (folder / "index").touch()
    moments = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + offset)) for offset in (LEFT - LIFETIME, LEFT)]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    succeeded(run("openssl", "req", "-new", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=tenant-auth", cwd=folder))
    dates = ["-startdate", moments[0], "-enddate", moments[1]]
    files = ["-keyfile", "server.key", "-in", "server.csr", "-out", "server.crt", "-notext"]
    succeeded(run("openssl", "ca", "-batch", "-selfsign", "-config", "authority.conf", *dates, *files, cwd=folder))
    world.words |= {"FILE": str(folder / "server.crt"), "NAME": "tenant-auth-tls"}
    replica = world.replica(TLS_CERT_FILE=folder / "server.crt", TLS_KEY_FILE=folder / "server.key")
    replica.says("process ready", "server certificate expires at")


def token(issued, expires):
    """A token with an expiry, for a database that accepts any token: it is unsigned."""
    parts = [{"alg": "EdDSA"}, {"a": "rw", "iat": int(issued), "exp": int(expires)}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


@state
def token_ends(world):
    """The database's token has two hours left, and a new one is next to it."""
    now = time.time()
    world.databases.append(Database())
    world.write("database-token", token(now + LEFT - LIFETIME, now + LEFT))
    world.write("token.new", token(now, now + 90 * DAY + 3_600))
    replica = world.replica()
    replica.says("process ready", "database token for reads expires at", "in 2 h")
