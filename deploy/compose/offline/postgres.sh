#!/bin/sh
# Starts PostgreSQL; makes its data first when there is none. Reads the variables of the public image.
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # Beside its place, and moved when whole: killed in the middle, the next start begins again.
  rm -rf "$PGDATA.new"
  # shellcheck disable=SC2086  # several arguments
  initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --encoding=UTF8 --no-locale \
    $POSTGRES_INITDB_ARGS "$PGDATA.new"
  echo 'host all all all scram-sha-256' >>"$PGDATA.new/pg_hba.conf"
  echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -D "$PGDATA.new" postgres
  mv "$PGDATA.new" "$PGDATA"
fi

exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
