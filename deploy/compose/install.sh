#!/bin/sh
# Installs locked requirements into /venv, in one layer: uv comes first and goes again, so neither it nor pip is in the
# image.  install.sh FILE…
set -eu

work=$(mktemp -d)
python3 -m venv "$work/installer"
"$work/installer/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes \
  -r /requirements/bootstrap.txt
for file in "$@"; do
  set -- "$@" -r "$file"
  shift
done
"$work/installer/bin/uv" pip install --quiet --no-cache --compile-bytecode --python /venv/bin/python --require-hashes "$@"
rm -rf "$work"
