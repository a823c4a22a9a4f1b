#!/usr/bin/env bash
# Runs the scripts as an operator does, with real processes and no Docker, failing paths included.
# usage: local.sh FOLDER    where logs are left; programs: $LYCEUM, $SIM, $TRAEFIK
set -uo pipefail
# shellcheck source=../scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"
OUT=${1:?where logs are left}
STATE=$(mktemp -d "${TMPDIR:-/var/tmp}/lyceum-ops-test-XXXXXX")
chmod 0711 "$STATE"
HA=$STATE/ha QUICK=$STATE/quick BASE=$((20000 + RANDOM % 20000 / 40 * 40))

ha() { KIT_STATE=$HA "$KIT/scripts/deploy-ha.sh" --local "$@"; }
quick() { KIT_STATE=$QUICK "$KIT/scripts/quick-start.sh" --local "$@"; }
health() { KIT_STATE=$HA "$KIT/scripts/health-check.sh" --local "$@"; }

finish() {
    local code=$?
    ha --down >/dev/null 2>&1
    quick --down >/dev/null 2>&1
    mkdir -p "$OUT"
    cp "$HA"/logs/*.log "$QUICK"/logs/*.log "$OUT/" 2>/dev/null
    rm -rf "$STATE"
    exit "$code"
}
trap finish EXIT

# expect CODE WHAT COMMAND...: what it printed is shown when the code is another.
expect() {
    local code=$1 what=$2 found
    shift 2
    "$@" >"$STATE/said" 2>&1
    found=$?
    if [ "$found" != "$code" ]; then
        printf 'local: %s: exit code %s instead of %s\n' "$what" "$found" "$code"
        cat "$STATE/said"
        exit 1
    fi
    say "local: $what"
}

says() { grep -qF -- "$1" "$STATE/said" || { printf 'local: it does not say %s:\n' "$1"; cat "$STATE/said"; exit 1; }; }

turn() {
    curl -sS -m 30 -o "$STATE/answer" -w '%{http_code}' -H "authorization: Bearer $(<"$HA/secrets/operator_key")" \
        -H "content-type: application/json" "http://127.0.0.1:$BASE/chat" \
        --data-binary "{\"topic\":\"$1\",\"explanation\":\"Plants make sugar from light somehow.\",\"session_id\":\"$1\",\"short_term_memory\":[]}"
}
knows() {
    curl -sS -m 30 -o "$STATE/answer" -w '%{http_code}' -H "authorization: Bearer $(<"$HA/secrets/operator_key")" \
        "http://127.0.0.1:$BASE/sessions/$1/knowledge"
}
is() { [ "$("${@:2}")" = "$1" ]; }

say "local: wrong use and missing parts"
for script in quick-start deploy-ha health-check backup; do
    expect 0 "$script.sh --help" "$KIT/scripts/$script.sh" --help
    says "usage:"
    expect 2 "$script.sh with a wrong argument" "$KIT/scripts/$script.sh" --wrong
done
expect 3 "no server" env LYCEUM=/nowhere/lyceum KIT_STATE="$HA" "$KIT/scripts/deploy-ha.sh" --local --port "$BASE"
says "there is no server"
expect 2 "nothing to end" ha --down
expect 2 "nothing to check" health
expect 1 "nothing answers" "$KIT/scripts/health-check.sh" --url "http://127.0.0.1:$BASE" --requests 0
# A configuration that the server refuses ends the start with its words, and leaves nothing behind.
expect 4 "a wrong configuration" env LYCEUM_QUEUE__MAX_CONCURRENT=many KIT_STATE="$HA" "$KIT/scripts/deploy-ha.sh" \
    --local --port "$BASE" --no-check
says "max_concurrent"
port_is_free $((BASE + 2)) || die 1 "PostgreSQL was left behind"

say "local: three replicas, as text"
export LYCEUM_LOG__FORMAT=text LYCEUM_STORE__SLOW_MILLISECONDS=1
expect 0 "deploy-ha.sh starts and checks" ha --port "$BASE" -- --provider offline
says "All "
expect 2 "not twice" ha --port "$BASE"
expect 3 "no port that is taken" env KIT_STATE="$STATE/other" "$KIT/scripts/deploy-ha.sh" --local --port "$BASE"
says "is taken"
expect 0 "health-check.sh writes its report" health --report "$STATE/report.md"
grep -q '^| ok | every turn is answered | 20 of 20 |$' "$STATE/report.md" || die 1 "the report lacks the benchmark"

# Later many people come from one address. Not then: a balancer that reads its file anew takes every
# replica for alive until its next look.
sed -i -e 's/average: 20$/average: 5000/' -e 's/burst: 100$/burst: 5000/' "$HA/traefik/dynamic.yml"
grep -q 'average: 5000' "$HA/traefik/dynamic.yml" || die 1 "the limit of an address is not where it was"

expect 0 "what cdn.md says, through the balancer" "$KIT/tests/cdn.sh" "http://127.0.0.1:$BASE"

say "local: a replica dies"
kill -s KILL "$(<"$HA/run/replica-2.pid")"
expect 1 "health-check.sh sees it" health --requests 0
says "FAILED  http://127.0.0.1:$((BASE + 12)) lives"
# Within the interval of the health check the balancer goes round it.
for _ in $(seq 1 20); do turn after-death >/dev/null; done
expect 0 "people are served" is 200 turn after-death

say "local: replicas are started again while people ask"
end=$((SECONDS + 20))
until grep -q "Health check failed.*:$((BASE + 12))$" "$HA/logs/traefik.log"; do
    [ "$SECONDS" -lt "$end" ] || die 1 "the balancer does not see that a replica is dead"
    sleep 1
done
# 50 people who think for 0.2 s: up to 250 requests a second.
"$SIM" load --target "http://127.0.0.1:$BASE" --endpoint chat --users 50 --think 200ms --duration 90s \
    --timeout 30s --api-key "$(<"$HA/secrets/operator_key")" >"$STATE/asked" 2>"$STATE/asker" &
asker=$!
sleep 3
expect 0 "deploy-ha.sh --roll" ha --roll --no-check
kill -0 "$asker" || die 1 "they asked for too short a time: $(cat "$STATE/asked" "$STATE/asker")"
wait "$asker" || die 1 "requests were lost: $(cat "$STATE/asked" "$STATE/asker")"
figure() { grep -F "\"metric\":\"$1\"" "$STATE/asked" | grep -o '"value":[0-9]*' | cut -d: -f2; }
say "local: none of $(figure answers) requests was lost, $(figure rate) a second"
expect 0 "all are there again" health --requests 0

say "local: backup and restore"
database() { printf 'postgresql://%s:%s@127.0.0.1:%s/lyceum' "$1" "$(<"$HA/secrets/$1_db_password")" $((BASE + 2)); }
STORE_URL=$(database backup)
export STORE_URL
is 200 turn kept || die 1 "no turn before the backup"
expect 0 "backup.sh postgres" "$KIT/scripts/backup.sh" postgres "$STATE/backups"
dump=$(tail -n 1 "$STATE/said")
is 200 turn lost || die 1 "no turn after the backup"
for n in 1 2 3; do
    kill -s TERM "$(<"$HA/run/replica-$n.pid")"
done
STORE_URL=$(database lyceum)
expect 1 "no restoring of what is no backup" "$KIT/scripts/backup.sh" restore-postgres "$KIT/README.md"
expect 0 "backup.sh restore-postgres" "$KIT/scripts/backup.sh" restore-postgres "$dump"
expect 0 "replicas on what was restored" ha --roll --no-check
is 200 knows kept || die 1 "what was backed up is not there: $(<"$STATE/answer")"
is 404 knows lost || die 1 "what came after the backup is there: $(<"$STATE/answer")"
expect 0 "deploy-ha.sh --down" ha --down
for port in "$BASE" $((BASE + 2)) $((BASE + 3)); do
    port_is_free "$port" || die 1 "something was left behind at $port"
done

say "local: one server with its monitoring, as JSON"
export LYCEUM_LOG__FORMAT=json
expect 0 "quick-start.sh" quick --port "$BASE" -- --provider offline
up() {
    curl -sS -m 5 "http://127.0.0.1:$((BASE + 1))/api/v1/query?query=sum(up)" | grep -q '"3"\]'
}
end=$((SECONDS + 40))
until up; do
    [ "$SECONDS" -lt "$end" ] || die 1 "Prometheus does not reach all three"
    sleep 1
done
say "local: Prometheus reaches the server, AlertManager and itself"
curl -sS -m 20 -o /dev/null "http://127.0.0.1:$BASE/chat" -H "content-type: application/json" \
    --data-binary '{"topic":"a","explanation":"Plants make sugar somehow.","session_id":"kept","short_term_memory":[]}'
expect 0 "backup.sh sqlite while it runs" "$KIT/scripts/backup.sh" sqlite "$QUICK/server" "$STATE/backups"
copy=$(tail -n 1 "$STATE/said")
expect 2 "no restoring over what is there" "$KIT/scripts/backup.sh" restore-sqlite "$copy" "$QUICK/server"
expect 0 "quick-start.sh --down" quick --down
mv "$QUICK/server" "$QUICK/server.old"
mkdir "$QUICK/server"
expect 0 "backup.sh restore-sqlite" "$KIT/scripts/backup.sh" restore-sqlite "$copy" "$QUICK/server"
expect 0 "quick-start.sh on what was restored" quick --port "$BASE" -- --provider offline
status=$(curl -sS -o /dev/null -w '%{http_code}' "http://127.0.0.1:$BASE/sessions/kept/knowledge")
[ "$status" = 200 ] || die 1 "what was backed up is not there: $status"
say "local: all is as promised"
