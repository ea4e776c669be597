#!/bin/sh
# Make sure that there is a Chromium for the browser tests, or say that they will be skipped. Never fails.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)

for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Chromium for the browser tests …"
    if apt-get update -qq >/dev/null 2>&1 && apt-get install -y -qq chromium >/dev/null 2>&1; then exit 0; fi
fi
if timeout 300 "$root/.venv/bin/python" -m playwright install chromium >/dev/null 2>&1; then exit 0; fi
echo "No Chromium here and none could be installed: the browser tests will be skipped." >&2
exit 0
