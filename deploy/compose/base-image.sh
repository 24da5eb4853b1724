#!/bin/sh
# Makes a base image for machines that reach no image registry: Debian with its Python, by debootstrap.
#
#   deploy/compose/base-image.sh [tag]        (default: frontispiece-base:bookworm; needs root, debootstrap and an engine)
#
# The image trusts the certificate authorities that this machine trusts, so that builds behind an intercepting proxy
# work without anything about that proxy in the Dockerfiles.
set -eu

tag=${1:-frontispiece-base:bookworm}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/root" >"$work/log" 2>&1 || {
  tail -n 20 "$work/log" >&2
  exit 1
}
rm -rf "$work/root/var/cache/apt/archives/"*.deb "$work/root/var/lib/apt/lists/"*

authorities=/etc/ssl/certs/ca-certificates.crt
if [ -r "$authorities" ]; then
  install -m 0644 "$authorities" "$work/root$authorities"
fi

# uv and httpx bring authorities of their own unless told otherwise.
tar -C "$work/root" -c . | docker import \
  --change "ENV SSL_CERT_FILE=$authorities PIP_CERT=$authorities" \
  --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
  --change 'CMD ["python3"]' \
  - "$tag" >/dev/null
echo "$tag"
