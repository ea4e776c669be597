#!/bin/sh
# Make sure that there are a Chromium and a Playwright that starts, or say that the browser tests will be skipped. Never fails.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)

browser() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" >/dev/null 2>&1 && return 0
    done
    return 1
}
playwright() { timeout 300 "$root/.venv/bin/python" -m playwright "$@" >/dev/null 2>&1; }

missing=
browser || missing="chromium"
# Playwright brings a Node along that needs libatomic, which a bare Debian has not.
playwright --version || missing="$missing libatomic1"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Chromium for the browser tests …"
    # shellcheck disable=SC2086
    if apt-get update -qq >/dev/null 2>&1 && apt-get install -y -qq $missing >/dev/null 2>&1; then exit 0; fi
fi
if ! playwright --version; then
    echo "Playwright does not start here (on Debian it needs libatomic1): the browser tests will be skipped." >&2
elif ! browser && ! playwright install chromium; then
    echo "No Chromium here and none could be installed: the browser tests will be skipped. One on PATH as chromium is taken." >&2
fi
exit 0
