#!/bin/sh
# A tour of ten seconds: starts the pipeline on the sample, asks it a few questions, and stops it.
set -eu
cd "$(dirname "$0")"
make --no-print-directory web
folder=$(mktemp -d)
.venv/bin/telemetry up --data-dir "$folder/data" >"$folder/up.log" 2>&1 &
pipeline=$!
trap 'kill -INT $pipeline 2>/dev/null; wait $pipeline || true; rm -rf "$folder"' EXIT INT TERM

ask() { .venv/bin/python -c '
import json, sys, urllib.request
print(json.dumps(json.load(urllib.request.urlopen(sys.argv[1], timeout=5)), indent=2)[:int(sys.argv[2])])' "$1" "$2"; }

say() { printf '\n\033[1m%s\033[0m\n' "$1"; }

say "Starting queue, collector, streamer and gateway …"
tries=0
until grep -q Dashboard "$folder/up.log" && ask "http://127.0.0.1:8081/api/v1/gpus?page_size=1" 9999 2>/dev/null | grep -q '"gpu"'; do
    kill -0 $pipeline 2>/dev/null || { cat "$folder/up.log"; exit 1; }
    tries=$((tries + 1)); [ $tries -lt 120 ] || { cat "$folder/up.log"; exit 1; }
    sleep 0.5
done
cat "$folder/up.log"
say "Which GPUs report?   curl 127.0.0.1:8081/api/v1/gpus?page_size=1"
ask "http://127.0.0.1:8081/api/v1/gpus?page_size=1" 900
say "How warm are they?   curl 127.0.0.1:8081/api/v1/fleet?metric=temperature"
ask "http://127.0.0.1:8081/api/v1/fleet?metric=temperature" 400
say "Is all well?         curl 127.0.0.1:8081/api/v1/health"
ask "http://127.0.0.1:8081/api/v1/health" 700
say "Stored on disk, one JSON object a line:"
file=$(find "$folder/data/store" -name '*.jsonl' | head -1)
tail -n 2 "$file"
say "Stopping."
