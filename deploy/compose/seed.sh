#!/bin/sh
# Makes a tenant and a key for trying out. Running it again finds both, so that `docker compose up` may be repeated.
set -eu

: "${SEED_KEY_FILE:?names the file to keep the key in}"

# As `tenant-auth-svc dev` makes it.
tenantctl tenant create --id ten_demo --name Demo --plan dev

# The key is shown once, so it is kept. A new database does not know a kept one: then it is denied, and replaced.
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
  # No answer is no denial.
  *) exit "$known" ;;
esac
echo "to see it: docker compose run --rm --entrypoint cat seed $SEED_KEY_FILE"
