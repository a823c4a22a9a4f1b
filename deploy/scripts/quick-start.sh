#!/usr/bin/env bash
# Monitoring, and with --local one server beside it, in one command.
set -uo pipefail
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
KIT_STATE=${KIT_STATE:-${TMPDIR:-/var/tmp}/lyceum-quick-$(id -u)}
# shellcheck source=local.sh
source "$KIT/scripts/local.sh"

usage() {
    cat <<TEXT
usage: quick-start.sh [--down]
       quick-start.sh --local [--port N] [--down] [-- ARGUMENTS OF serve]

Starts deploy/compose/monitoring.yaml: Prometheus 9090, AlertManager 9093, Grafana 3001,
Elasticsearch 9200, Logstash 5044, Kibana 5601, node exporter 9100, cAdvisor 8080. It watches what
deploy-ha.sh starts. Secrets are made once, in \$KIT_SECRETS (deploy/secrets); put the addresses of
your channels into slack_url, smtp_password and pagerduty_key there.

  --down    end it; data and secrets stay
  --local   plain processes instead of Docker, in \$KIT_STATE (${LOCAL_DIR}):
            one server on a SQLite file (\$LYCEUM, lyceum), Prometheus and AlertManager
  --port N  of the server (8080); Prometheus and AlertManager get the next two

Exit codes: 0 it runs, 2 wrong use, 3 something is missing, 4 it did not start.
TEXT
}

MODE=docker DOWN=0 PORT=8080 SERVE_ARGUMENTS=()
while [ $# -gt 0 ]; do
    case $1 in
    --local) MODE=local ;;
    --down) DOWN=1 ;;
    --port)
        [[ ${2:-} =~ ^[0-9]+$ ]] || wrong_use "--port wants a number"
        PORT=$2
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

# The configuration of Prometheus with this machine's addresses and without what does not run here.
local_prometheus_config() {
    mkdir -p "$LOCAL_DIR/prometheus"
    cp -r "$KIT/prometheus/rules" "$LOCAL_DIR/prometheus/"
    # One server is what there should be.
    sed -i 's/vector([0-9]*)/vector(1)/' "$LOCAL_DIR/prometheus/rules/recording.yml"
    awk -v server="127.0.0.1:$PORT" -v own="127.0.0.1:$((PORT + 1))" -v alerts="127.0.0.1:$((PORT + 2))" '
        /^  - job_name: / { job = $3 }
        # Of the jobs these three run here.
        job != "" && job != "lyceum" && job != "prometheus" && job != "alertmanager" { next }
        # Without keys everybody on this machine may read the metrics.
        job == "lyceum" && /authorization:|credentials_file:/ { next }
        /- targets:/ {
            here = job == "lyceum" ? server : job == "prometheus" ? own : alerts
            sub(/\[.*\]/, "[\"" here "\"]")
        }
        { print }' "$KIT/prometheus/prometheus.yml" >"$LOCAL_DIR/prometheus/prometheus.yml"
}

local_quick_down() {
    local name
    for name in server prometheus alertmanager; do local_stop "$name"; done
}

# local.sh calls it when a process did not start.
local_down() { local_quick_down; }

if [ "$MODE" = local ]; then
    LYCEUM=${LYCEUM:-lyceum}
    if [ "$DOWN" = 1 ]; then
        [ -d "$LOCAL_DIR/run" ] || die 2 "nothing was started in $LOCAL_DIR"
        local_quick_down
        say "Ended. Data and logs are in $LOCAL_DIR."
        exit 0
    fi
    need curl "apt-get install curl"
    need prometheus "apt-get install prometheus"
    alertmanager=$(find_program prometheus-alertmanager || find_program alertmanager) ||
        die 3 "alertmanager is missing: apt-get install prometheus-alertmanager"
    [ -x "$(command -v "$LYCEUM")" ] || die 3 "there is no server $LYCEUM: cargo build --release -p lyceum, or set LYCEUM"
    ! local_runs server || die 2 "it runs in $LOCAL_DIR already: end it with --local --down"
    for port in "$PORT" $((PORT + 1)) $((PORT + 2)); do
        port_is_free "$port" || die 3 "port $port is taken: give another --port (it and the next two are used)"
    done
    mkdir -p "$LOCAL_DIR"/{run,logs,server,tsdb,alertmanager,secrets}
    chmod 0700 "$LOCAL_DIR"
    say "Starting in $LOCAL_DIR:"
    local_start server "$LYCEUM" serve --listen "127.0.0.1:$PORT" --data-dir "$LOCAL_DIR/server" "${SERVE_ARGUMENTS[@]}"
    local_wait 30 server curl -fsS -m 2 "http://127.0.0.1:$PORT/readyz"
    for name in slack_url smtp_password pagerduty_key; do
        [ -s "$LOCAL_DIR/secrets/$name" ] || echo "https://example.invalid/replace-me" >"$LOCAL_DIR/secrets/$name"
    done
    cp -r "$KIT/alertmanager/templates" "$LOCAL_DIR/alertmanager/"
    sed "s|/etc/alertmanager/secrets|$LOCAL_DIR/secrets|" "$KIT/alertmanager/alertmanager.yml" \
        >"$LOCAL_DIR/alertmanager/alertmanager.yml"
    local_start alertmanager "$alertmanager" --config.file="$LOCAL_DIR/alertmanager/alertmanager.yml" \
        --storage.path="$LOCAL_DIR/alertmanager/data" --web.listen-address="127.0.0.1:$((PORT + 2))" \
        --cluster.listen-address=
    local_wait 20 alertmanager curl -fsS -m 2 "http://127.0.0.1:$((PORT + 2))/-/ready"
    local_prometheus_config
    local_start prometheus prometheus --config.file="$LOCAL_DIR/prometheus/prometheus.yml" \
        --storage.tsdb.path="$LOCAL_DIR/tsdb" --storage.tsdb.retention.time=30d \
        --web.listen-address="127.0.0.1:$((PORT + 1))"
    local_wait 30 prometheus curl -fsS -m 2 "http://127.0.0.1:$((PORT + 1))/-/ready"
    say "Lyceum:       http://127.0.0.1:$PORT"
    say "Prometheus:   http://127.0.0.1:$((PORT + 1))"
    say "AlertManager: http://127.0.0.1:$((PORT + 2))"
    exit 0
fi

need_docker
KIT_SECRETS=${KIT_SECRETS:-$KIT/secrets}
export KIT_SECRETS
compose() { docker compose --project-directory "$KIT/compose" -f "$KIT/compose/monitoring.yaml" "$@"; }
if [ "$DOWN" = 1 ]; then
    compose down || die 4 "compose could not end it"
    exit 0
fi
most=$(sysctl -n vm.max_map_count 2>/dev/null || echo 0)
[ "$most" -ge 262144 ] || die 3 "Elasticsearch wants vm.max_map_count of 262144, here it is $most: sysctl -w vm.max_map_count=262144"
make_secrets "$KIT_SECRETS"
compose up --detach || die 4 "compose could not start it"
# Not --wait: one service ends when its work is done.
end=$((SECONDS + 300))
for service in prometheus:9090/-/ready alertmanager:9093/-/ready grafana:3001/api/health kibana:5601/api/status \
    node-exporter:9100/metrics cadvisor:8080/healthz; do
    until curl -fsS -m 3 -o /dev/null "http://127.0.0.1:${service#*:}" 2>/dev/null; do
        [ "$SECONDS" -lt "$end" ] || die 4 "${service%%:*} does not answer: docker compose -p lyceum logs ${service%%:*}"
        sleep 2
    done
    say "  ${service%%:*} is there"
done
say "Grafana: http://127.0.0.1:3001 (operator, password in $KIT_SECRETS/grafana_password)"
say "Kibana:  http://127.0.0.1:5601 (elastic, password in $KIT_SECRETS/elastic_password)"
