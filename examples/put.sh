#!/usr/bin/env bash
# Puts a greeting every second. Start `dsmq` first, and see it arrive with get.sh.
# Needs bash and nothing else: /dev/tcp is bash's own.
#
#   examples/put.sh [--host HOST] [--port PORT] [--count N] [--interval SECONDS]
set -euo pipefail

host=127.0.0.1 port=30008 count=1000 interval=1
while (($# > 1)); do
    case $1 in
        --host) host=$2 ;;
        --port) port=$2 ;;
        --count) count=$2 ;;
        --interval) interval=$2 ;;
    esac
    shift 2
done

exec 3<>"/dev/tcp/$host/$port"
for ((number = 0; number < count; number++)); do
    request='{"action": "put", "topic": "greetings", "message": "Hello! '$number'"}'
    printf '%s' "$request" >&3
    echo "client sent $request"
    sleep "$interval"
done
