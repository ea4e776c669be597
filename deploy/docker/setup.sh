#!/usr/bin/env bash
# Starts the pipeline in containers: checks what it needs, builds and starts, waits until all is healthy, and says what to
# open, or what is wrong. `setup.sh --help` lists what it takes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
profile=()
build=(--build)
action=start
wait_s=${WAIT_S:-300}

usage() {
    cat <<'TEXT'
Usage: setup.sh [--monitoring] [--no-build] [--stop | --delete]

  --monitoring   also Prometheus, Alertmanager and Grafana with its dashboards
  --no-build     use the images that are there, or that IMAGE and TAG name
  --stop         stop everything; the data stays
  --delete       stop everything and delete the data

Ports on this machine: DASHBOARD_PORT (8080), API_PORT (8081), GRAFANA_PORT (3000), PROMETHEUS_PORT (9090),
ALERTMANAGER_PORT (9093). WAIT_S: how long it may take until all is healthy (300).
TEXT
}

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

while (($#)); do
    case $1 in
    --monitoring) profile=(--profile monitoring) ;;
    --no-build) build=(--no-build) ;;
    --stop) action=stop ;;
    --delete) action=delete ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "" "There is no option $1." ;;
    esac
    shift
done

compose() { docker compose --file "$here/compose.yaml" "$@"; }

# --- prerequisites ---------------------------------------------------------------------------------

command -v docker >/dev/null || fail "Docker is not installed: https://docs.docker.com/get-docker/"
if ! answer=$(docker info 2>&1); then
    case $answer in
    *"permission denied"*) fail "You may not talk to Docker. Add yourself to its group, and log in again:" \
        "  sudo usermod --append --groups docker $(id -un)" ;;
    *) fail "Docker does not answer; is it running? It says:" "$answer" ;;
    esac
fi
version=$(docker compose version --short 2>/dev/null) ||
    fail "Docker has no Compose: https://docs.docker.com/compose/install/"
version=${version#v}
IFS=. read -r major minor _ <<<"$version"
if ((major < 2 || (major == 2 && ${minor%%[!0-9]*} < 20))); then
    fail "Compose $version is too old; 2.20 or newer is needed: https://docs.docker.com/compose/install/"
fi

case $action in
stop) compose --profile monitoring down; exit ;;
delete) compose --profile monitoring down --volumes; exit ;;
esac

check_port() { # service, variable, default
    local port=${!2:-$3}
    # Our own container may hold it.
    [ -z "$(compose ps --quiet "$1" 2>/dev/null)" ] || return 0
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        fail "Port $port is taken by another program. Stop it, or choose another port: $2=PORT $0"
    fi
}
check_port gateway DASHBOARD_PORT 8080
check_port gateway API_PORT 8081
if ((${#profile[@]})); then
    check_port grafana GRAFANA_PORT 3000
    check_port prometheus PROMETHEUS_PORT 9090
    check_port alertmanager ALERTMANAGER_PORT 9093
    export ALERTMANAGER=${ALERTMANAGER:-http://alertmanager:9093}
fi

# --- start -----------------------------------------------------------------------------------------

echo "Starting; the first time this builds the images, which takes some minutes …"
if ! compose ${profile[@]+"${profile[@]}"} up --detach "${build[@]}" --wait --wait-timeout "$wait_s"; then
    echo >&2
    sick=$(compose ${profile[@]+"${profile[@]}"} ps --all --format '{{.Service}} {{.State}} {{.Health}}' 2>/dev/null |
        grep -v ' running healthy$' || true)
    [ -n "$sick" ] || fail "It did not start; the lines above say why."
    while read -r service state health; do
        printf 'Not healthy: %s (%s). Its last lines:\n' "$service" "$state${health:+, $health}" >&2
        compose logs --no-log-prefix --tail 20 "$service" >&2 </dev/null || true
    done <<<"$sick"
    fail "" "All lines: docker compose --file $here/compose.yaml logs"
fi

cat <<TEXT

Everything is healthy, and streams the sample.

  Dashboard     http://127.0.0.1:${DASHBOARD_PORT:-8080}
  API           http://127.0.0.1:${API_PORT:-8081}/docs
TEXT
if ((${#profile[@]})); then
    cat <<TEXT
  Grafana       http://127.0.0.1:${GRAFANA_PORT:-3000}
  Prometheus    http://127.0.0.1:${PROMETHEUS_PORT:-9090}
  Alertmanager  http://127.0.0.1:${ALERTMANAGER_PORT:-9093}
TEXT
fi
cat <<TEXT

Stop it with $0 --stop; --delete deletes the data too. Files of your own: docs/deployment.md.
TEXT
