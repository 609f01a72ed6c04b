#!/bin/sh
# Creates a tenant and a key for trial use. A repeated run finds both, so that `docker compose up` may be repeated.
set -eu

: "${SEED_KEY_FILE:?names the file to keep the key in}"

# The same tenant as `tenant-auth-svc dev` creates.
tenantctl tenant create --id ten_demo --name Demo --plan dev

# The key is shown only once, so it is kept. A new database does not know a kept key: the key is then denied, and
# replaced.
known=1
if [ -s "$SEED_KEY_FILE" ]; then
  known=0
  tenantctl validate --scope demo:read <"$SEED_KEY_FILE" >/dev/null || known=$?
fi
case "$known" in
  0) echo 'the demo key is there already' ;;
  1)
    umask 077
    tenantctl key issue --quiet --tenant ten_demo --name 'demo key' --scope demo:read --scope demo:write \
      >"$SEED_KEY_FILE.new"
    mv "$SEED_KEY_FILE.new" "$SEED_KEY_FILE"
    echo 'a demo key was issued'
    ;;
  # A missing answer is not a denial.
  *) exit "$known" ;;
esac
echo "to print it: docker compose run --rm --entrypoint cat seed $SEED_KEY_FILE"
