#!/usr/bin/env bash
# Traefik in front of three replicas with one PostgreSQL and one Redis.
set -uo pipefail
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=local.sh
source "$KIT/scripts/local.sh"

usage() {
    cat <<TEXT
usage: deploy-ha.sh [--build] [--roll | --down] [--no-check]
       deploy-ha.sh --local [--port N] [--replicas N] [--roll | --down] [--no-check] [-- ARGUMENTS OF serve]

Starts deploy/compose/ha.yaml and checks it with health-check.sh. Secrets are made once, in
\$KIT_SECRETS (deploy/secrets); put your provider's key into lyceum.env there.

  --build       build the image first (else \$KIT_IMAGE, lyceum:0.1.0, must be there)
  --roll        start the replicas again, one after the other, for a new image or configuration
  --down        end it; data and secrets stay
  --no-check    do not check it afterwards
  --local       plain processes instead of Docker, in \$KIT_STATE
                (${LOCAL_DIR}); programs: \$LYCEUM (lyceum), \$TRAEFIK (traefik),
                redis-server, PostgreSQL
  --port N      of the balancer (80; with --local 8000, and further ports after it)
  --replicas N  with --local, 1 to 9 (3)

Exit codes: 0 it runs, 1 a check failed, 2 wrong use, 3 something is missing, 4 it did not start.
TEXT
}

MODE=docker DOWN=0 ROLL=0 BUILD=0 CHECK=1 PORT='' REPLICAS=3 SERVE_ARGUMENTS=()
while [ $# -gt 0 ]; do
    case $1 in
    --local) MODE=local ;;
    --down) DOWN=1 ;;
    --roll) ROLL=1 ;;
    --build) BUILD=1 ;;
    --no-check) CHECK=0 ;;
    --port | --replicas)
        [[ ${2:-} =~ ^[0-9]+$ ]] || wrong_use "$1 wants a number"
        [ "$1" = --port ] && PORT=$2 || REPLICAS=$2
        shift
        ;;
    -h | --help) usage && exit 0 ;;
    --)
        shift
        SERVE_ARGUMENTS=("$@")
        break
        ;;
    *) wrong_use "unknown argument $1" ;;
    esac
    shift
done
[[ $REPLICAS =~ ^[1-9]$ ]] || wrong_use "--replicas is 1 to 9"
[ "$MODE" = local ] || [ "$REPLICAS" = 3 ] || wrong_use "with Docker the replicas stand in compose/ha.yaml"

if [ "$MODE" = local ]; then
    PORT=${PORT:-8000} LYCEUM=${LYCEUM:-lyceum} TRAEFIK=${TRAEFIK:-traefik}
    if [ "$DOWN" = 1 ]; then
        [ -d "$LOCAL_DIR/run" ] || die 2 "there is no cluster in $LOCAL_DIR"
        local_down
        say "Ended. Data, logs and secrets are in $LOCAL_DIR."
        exit 0
    fi
    if [ "$ROLL" = 1 ]; then
        say "Starting the replicas again:"
        local_roll
    else
        say "Starting in $LOCAL_DIR:"
        local_up
    fi
    say "Lyceum is at http://127.0.0.1:$PORT; the key is in $LOCAL_DIR/secrets/operator_key."
    [ "$CHECK" = 0 ] || exec "$KIT/scripts/health-check.sh" --local
    exit 0
fi

need_docker
KIT_SECRETS=${KIT_SECRETS:-$KIT/secrets}
export KIT_SECRETS KIT_PORT=${PORT:-80}
compose() { docker compose --project-directory "$KIT/compose" -f "$KIT/compose/ha.yaml" "$@"; }
if [ "$DOWN" = 1 ]; then
    compose down || die 4 "compose could not end it"
    exit 0
fi
make_secrets "$KIT_SECRETS"
if [ "$BUILD" = 1 ]; then
    compose build lyceum-1 || die 4 "the image could not be built"
elif ! docker image inspect "${KIT_IMAGE:-lyceum:0.1.0}" >/dev/null 2>&1; then
    die 3 "there is no image ${KIT_IMAGE:-lyceum:0.1.0}: add --build, or set KIT_IMAGE"
fi
if [ "$ROLL" = 1 ]; then
    for replica in lyceum-1 lyceum-2 lyceum-3; do
        compose up --detach --wait --wait-timeout 180 --no-build --no-deps --force-recreate "$replica" ||
            die 4 "$replica is not healthy; the others go on: docker compose -p lyceum logs $replica"
        # Traefik looks at a replica that was away every 2 s; then the next may go.
        sleep 5
    done
fi
compose up --detach --wait --wait-timeout 180 --no-build || {
    compose ps --all
    die 4 "not all services are healthy: docker compose -p lyceum logs SERVICE says why"
}
say "Lyceum is at http://127.0.0.1:$KIT_PORT; the key is in $KIT_SECRETS/operator_key."
[ "$CHECK" = 0 ] || exec "$KIT/scripts/health-check.sh" --url "http://127.0.0.1:$KIT_PORT" \
    --key-file "$KIT_SECRETS/operator_key"
