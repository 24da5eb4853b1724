#!/bin/sh
# Prepares a compose deployment, once: makes its secrets, and gives the bucket's volume to the user that writes it.
# Each consumer gets a volume with its own secrets and sees no other's. Files that exist are kept, so running it again
# changes nothing; to use secrets of your own, put them there.
#
#   database/  postgres_password, posts_database_url,     postgres, migrate
#              posts_services_database_url
#   posts/     posts_database_url                         posts, worker: a role without power over the server
#   s3/        s3.json (who may do what in the bucket)    s3
#   storage/   aws_access_key_id, aws_secret_access_key   storage
#   cdn/       access_key_id, secret_access_key           cdn: may read generated/* and nothing else
#   gateway/   gateway_token                              gateway
set -eu
umask 022 # read by processes that are not root; only containers that mount the volume can reach it

folder=${1:-/secrets}
bucket=${AWS_S3_BUCKET:-images}

random() { head -c 32 /dev/urandom | od -A n -t x1 | tr -d ' \n'; }

# keep FILE VALUE: writes the file unless it exists. Whole or not at all, whenever we are killed.
keep() {
  [ -s "$folder/$1" ] && return
  printf '%s' "$2" >"$folder/$1.new"
  mv "$folder/$1.new" "$folder/$1"
}

keep database/postgres_password "$(random)"
keep database/posts_database_url \
  "postgresql://frontispiece:$(cat "$folder/database/postgres_password")@postgres:5432/frontispiece"
keep posts/posts_database_url "postgresql://frontispiece_services:$(random)@postgres:5432/frontispiece"
cp "$folder/posts/posts_database_url" "$folder/database/posts_services_database_url"
keep storage/aws_access_key_id "storage-$(random | cut -c1-12)"
keep storage/aws_secret_access_key "$(random)"
keep cdn/access_key_id "cdn-$(random | cut -c1-12)"
keep cdn/secret_access_key "$(random)"
keep gateway/gateway_token "$(random)"

# identity NAME FOLDER/PREFIX ACTIONS
identity() {
  printf '{"name": "%s", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": [%s]}' "$1" \
    "$(cat "$folder/$2access_key_id")" "$(cat "$folder/$2secret_access_key")" "$3"
}
# Always written: it follows from the keys above.
printf '%s' "{\"identities\": [
  $(identity storage storage/aws_ \
    "\"Read:$bucket/generated/*\", \"Write:$bucket/generated/*\", \"Tagging:$bucket/generated/*\", \"List:$bucket\""),
  $(identity cdn cdn/ "\"Read:$bucket/generated/*\"")
]}" >"$folder/s3/s3.json.new"
mv "$folder/s3/s3.json.new" "$folder/s3/s3.json"

if [ -d /data ]; then
  chown 10001:10001 /data
fi
echo 'secrets are in place; the token of the editors: docker-compose exec gateway cat /run/secrets/gateway_token'
