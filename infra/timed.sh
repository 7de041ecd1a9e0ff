#!/usr/bin/env bash
# Run a command that says little itself: one line before, one line after with its seconds.
# Usage: timed.sh "what is done" COMMAND [ARGUMENT ...]
set -euo pipefail
what=$1
shift
echo "onceseen: ${what} ..."
start=$SECONDS
status=0
"$@" || status=$?
if [ "${status}" -ne 0 ]; then
  echo "onceseen: ${what} failed with exit code ${status} after $((SECONDS - start)) s; the reason is above" >&2
  exit "${status}"
fi
echo "onceseen: ${what} took $((SECONDS - start)) s"
