#!/bin/sh
# Compares the contracts with those of main (in a clone: origin/main) and fails on a change that breaks callers.
# On main itself they are compared with the commit before.
# Usage: check_breaking.sh BUF, in the repository's root.
set -eu
for branch in origin/main main; do
  base=$(git merge-base HEAD "$branch" 2>/dev/null) || continue
  if [ "$base" = "$(git rev-parse HEAD)" ]; then base=$(git rev-parse --verify --quiet HEAD^) || continue; fi
  if git cat-file -e "$base:protos/buf.yaml" 2>/dev/null; then
    cd protos
    exec "$1" breaking --against "../.git#ref=$base,subdir=protos"
  fi
done
echo "contracts: main has none to compare with; breaking check not run"
