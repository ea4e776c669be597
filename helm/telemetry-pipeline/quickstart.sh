#!/usr/bin/env bash
# From nothing to the pipeline in a Kind cluster: checks what it needs, makes the cluster, builds and loads the images,
# installs the chart, and tests it. Run again, it upgrades. `quickstart.sh --help` lists what it takes.
set -euo pipefail

chart=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$chart/../.." && pwd)
cluster=telemetry
namespace=telemetry
release=telemetry-pipeline
repository=gpu-telemetry-pipeline
build=1
action=install
more=()

usage() {
    cat <<'TEXT'
Usage: quickstart.sh [--cluster NAME] [--no-build] [--delete] [-- HELM-ARGUMENT…]

  --cluster NAME   the Kind cluster to make or use (telemetry)
  --no-build       the images are there already
  --delete         delete the cluster with all that is in it
  --               what follows is for `helm upgrade`, such as: -- --set collector.replicas=2
TEXT
}

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

while (($#)); do
    case $1 in
    --cluster) (($# > 1)) || fail "--cluster needs a name."; cluster=$2; shift ;;
    --no-build) build=0 ;;
    --delete) action=delete ;;
    --) shift; more=("$@"); break ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "" "There is no option $1." ;;
    esac
    shift
done

# --- prerequisites ---------------------------------------------------------------------------------

missing=()
need() { command -v "$1" >/dev/null || missing+=("  $1  $2"); }
need docker https://docs.docker.com/get-docker/
need kind https://kind.sigs.k8s.io/docs/user/quick-start/#installation
need kubectl https://kubernetes.io/docs/tasks/tools/
need helm https://helm.sh/docs/intro/install/
((${#missing[@]} == 0)) || fail "These programs are not installed:" "${missing[@]}"
docker info >/dev/null 2>&1 || fail "Docker does not answer; \`docker info\` says why."

if [ "$action" = delete ]; then
    kind delete cluster --name "$cluster"
    exit
fi

# --- cluster, images, chart ------------------------------------------------------------------------

if kind get clusters 2>/dev/null | grep -qx "$cluster"; then
    echo "Using the Kind cluster $cluster."
else
    kind create cluster --name "$cluster" --wait 120s
fi
context=kind-$cluster
kubectl --context "$context" get nodes >/dev/null || fail "The cluster $cluster does not answer. Make a new one: $0 --delete"

tag=$(sed -n 's/^appVersion: "\(.*\)"/\1/p' "$chart/Chart.yaml")
for process in queue collector streamer gateway alerts; do
    image=$repository-$process:$tag
    if ((build)); then
        echo "Building $image …"
        docker build --quiet --file "$root/deploy/docker/Dockerfile" --target "$process" --tag "$image" "$root" >/dev/null
    fi
    docker image inspect "$image" >/dev/null 2>&1 || fail "There is no image $image; leave --no-build out."
    kind load docker-image --name "$cluster" "$image"
done

echo "Installing the chart …"
if ! helm upgrade --install "$release" "$chart" --kube-context "$context" --namespace "$namespace" --create-namespace \
    --wait --timeout 5m ${more[@]+"${more[@]}"}; then
    echo >&2
    kubectl --context "$context" --namespace "$namespace" get pods >&2 || true
    kubectl --context "$context" --namespace "$namespace" get events --field-selector type=Warning \
        --sort-by .lastTimestamp >&2 || true
    fail "" "Not all pods came up; the lines above say which, and \`kubectl --context $context --namespace $namespace logs POD\` why."
fi
# Its streamer and gateway may need a moment to find each other.
helm test "$release" --kube-context "$context" --namespace "$namespace" --logs ||
    fail "Not every process is healthy; the lines above say which."

cat <<TEXT

Everything is healthy, and streams the sample. To look at it:

  kubectl --context $context --namespace $namespace port-forward service/$release-gateway 8080 8081

  Dashboard  http://127.0.0.1:8080
  API        http://127.0.0.1:8081/docs

Delete the cluster with $0 --delete.
TEXT
