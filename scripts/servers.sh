#!/bin/sh
# Put Debian's Prometheus, Alertmanager and VictoriaMetrics under .venv/servers for tests and benchmarks, or say that what
# needs them will be skipped. Nothing is installed on the machine and nothing is started. Never fails.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
servers="$root/.venv/servers"
bin="$servers/usr/bin"

# A program that is not there, or does not start, is asked for again; tests look here first and then on PATH.
there() {
    for name in prometheus promtool prometheus-alertmanager amtool victoria-metrics; do
        "$bin/$name" --version >/dev/null 2>&1 || command -v "$name" >/dev/null 2>&1 || return 1
    done
}

there && exit 0
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg >/dev/null 2>&1; then
    echo "No apt-get here: what needs Prometheus, Alertmanager or VictoriaMetrics will be skipped." >&2
    exit 0
fi
echo "Fetching Prometheus, Alertmanager and VictoriaMetrics for the tests …"
mkdir -p "$root/.venv"
work=$(mktemp -d "$root/.venv/.servers.XXXXXX") || exit 0
trap 'rm -rf "$work"' EXIT

# As root, apt would hand the download to a user who cannot write to the folder.
fetch() { (cd "$work" && timeout 300 apt-get -qq -oAPT::Sandbox::User=root download "$@" >/dev/null 2>&1); }

packages="prometheus prometheus-alertmanager victoria-metrics"
# shellcheck disable=SC2086
if ! fetch $packages; then
    [ "$(id -u)" = 0 ] && timeout 300 apt-get update -qq >/dev/null 2>&1
    for package in $packages; do
        [ -n "$(find "$work" -name "${package}_*.deb")" ] || fetch "$package" || echo "apt has no $package here." >&2
    done
fi
for archive in "$work"/*.deb; do
    [ -e "$archive" ] && dpkg --extract "$archive" "$work/tree"
done
if [ -d "$work/tree" ]; then
    rm -rf "$servers"
    mv "$work/tree" "$servers"
fi
there || echo "Not all of Prometheus, Alertmanager and VictoriaMetrics run here: what needs them will be skipped." >&2
exit 0
