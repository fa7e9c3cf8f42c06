#!/usr/bin/env bash
# dsmq::Client alone is to bring serde_json and the serde that it stands on, and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
found=$(cargo tree --no-default-features --edges normal --depth 1 --prefix none --format '{p}' |
  awk 'NR > 1 {print $1}' | sort | xargs)
if [ "$found" != "serde serde_json" ]; then
  echo "dsmq::Client depends on: $found; it may depend on: serde serde_json" >&2
  exit 1
fi
echo "dsmq::Client depends on: $found"
