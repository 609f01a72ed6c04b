#!/bin/sh
# Makes a tenant and a key for trying out. Running it again finds both, so that `docker compose up` may be repeated.
set -eu

: "${SEED_KEY_FILE:?names the file to keep the key in}"

tenantctl tenant create --id ten_demo --name Demo --plan pro

# The key is shown once, so it is kept. A new database does not know a kept one: then it is denied, and replaced.
if [ -s "$SEED_KEY_FILE" ] && tenantctl validate --scope demo:read <"$SEED_KEY_FILE" >/dev/null; then
  echo 'the demo key is there already'
else
  umask 077
  tenantctl key issue --quiet --tenant ten_demo --name demo --scope demo:read >"$SEED_KEY_FILE.new"
  mv "$SEED_KEY_FILE.new" "$SEED_KEY_FILE"
  echo 'a demo key was issued'
fi
echo "to see it: docker compose run --rm --entrypoint cat seed $SEED_KEY_FILE"
