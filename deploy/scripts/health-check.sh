#!/usr/bin/env bash
# Checks a running deployment from outside: replicas, balancer, endpoints, database, a small benchmark.
set -uo pipefail
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=local.sh
source "$KIT/scripts/local.sh"

usage() {
    cat <<TEXT
usage: health-check.sh --url URL [--key-file FILE] [--replica URL]... [options]
       health-check.sh --local [options]

  --url URL        where the balancer is
  --key-file FILE  a key of the server, where it wants one
  --replica URL    a replica, asked directly; may be given several times
  --local          what deploy-ha.sh --local started, in \$KIT_STATE (${LOCAL_DIR})
  --requests N     how many turns the benchmark asks for (20; 0: no benchmark); above 100 the
                   balancers' limit for one address answers 429
  --at-once N      how many of them at the same time (4)
  --max-p95 S      seconds that the 95th percentile of turns may take (60)
  --report FILE    write what was found, as Markdown

The turns are of conversations whose names begin with health-check.

Exit codes: 0 all is well, 1 a check failed, 2 wrong use, 3 something is missing.
TEXT
}

URL='' KEY_FILE='' REPLICA_URLS=() LOCAL=0 REQUESTS=20 AT_ONCE=4 MAX_P95=60 REPORT=''
while [ $# -gt 0 ]; do
    case $1 in
    --local) LOCAL=1 ;;
    -h | --help) usage && exit 0 ;;
    --url | --key-file | --replica | --report | --requests | --at-once | --max-p95)
        [ -n "${2:-}" ] || wrong_use "$1 wants a value"
        case $1 in
        --url) URL=${2%/} ;;
        --key-file) KEY_FILE=$2 ;;
        --replica) REPLICA_URLS+=("${2%/}") ;;
        --report) REPORT=$2 ;;
        *) [[ $2 =~ ^[0-9]+$ ]] || wrong_use "$1 wants a number" ;;&
        --requests) REQUESTS=$2 ;;
        --at-once) AT_ONCE=$2 ;;
        --max-p95) MAX_P95=$2 ;;
        esac
        shift
        ;;
    *) wrong_use "unknown argument $1" ;;
    esac
    shift
done
need curl "apt-get install curl"
[ "$AT_ONCE" -ge 1 ] || wrong_use "--at-once is 1 at least"

if [ "$LOCAL" = 1 ]; then
    [ -s "$LOCAL_DIR/run/ports" ] || die 2 "no cluster runs in $LOCAL_DIR: deploy-ha.sh --local starts one"
    # shellcheck source=/dev/null
    source "$LOCAL_DIR/run/ports"
    URL=http://127.0.0.1:$PORT KEY_FILE=$LOCAL_DIR/secrets/operator_key
    for ((n = 0; n < REPLICAS; n++)); do
        REPLICA_URLS+=("http://127.0.0.1:$((REPLICA_PORT + n))")
    done
fi
[ -n "$URL" ] || wrong_use "--url or --local is needed"
[ -z "$KEY_FILE" ] || [ -r "$KEY_FILE" ] || die 2 "the file of the key cannot be read: $KEY_FILE"

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
# Keys stand in no list of processes.
: >"$WORK/headers"
[ -z "$KEY_FILE" ] || printf 'authorization: Bearer %s\n' "$(<"$KEY_FILE")" >"$WORK/headers"

FAILED=0 ROWS=()
# found ok|FAILED WHAT REMARK
found() {
    printf '%-7s %-44s %s\n' "$1" "$2" "$3"
    ROWS+=("| $1 | $2 | $3 |")
    [ "$1" != FAILED ] || FAILED=$((FAILED + 1))
}

# get URL [CURL ARGUMENTS]: the body in $WORK/body; prints the status.
get() { curl -sS -m 20 -o "$WORK/body" -w '%{http_code}' "$@" 2>"$WORK/error"; }

# expect STATUS WHAT URL [CURL ARGUMENTS]
expect() {
    local wanted=$1 what=$2 status
    shift 2
    status=$(get "$@")
    if [ "$status" = "$wanted" ]; then
        found ok "$what" "$status"
    else
        found FAILED "$what" "$status instead of $wanted $(tr -d '\n' <"$WORK/error")"
        return 1
    fi
}

keyed() { expect "$1" "$2" "$3" -H "@$WORK/headers" "${@:4}"; }

# holds WHAT TEXT: whether the last body has it.
holds() {
    if grep -qF -- "$2" "$WORK/body"; then
        found ok "$1" "has $2"
    else
        found FAILED "$1" "lacks $2"
    fi
}

# number NAME: the first number under that name in the last body.
number() { grep -oE "\"$1\":[0-9.eE+-]+" "$WORK/body" | head -n 1 | cut -d: -f2; }

say "Replicas"
for replica in "${REPLICA_URLS[@]}"; do
    expect 200 "$replica lives" "$replica/livez" && expect 200 "$replica is ready" "$replica/readyz"
done

say "Balancer"
expect 200 "$URL answers" "$URL/livez"
if [ "${#REPLICA_URLS[@]}" -gt 1 ]; then
    # The health report names the process that made it.
    for _ in $(seq 1 $((${#REPLICA_URLS[@]} * 6))); do
        get "$URL/health" -H "@$WORK/headers" >/dev/null
        grep -oE '"serviceId":"[^"]*"' "$WORK/body"
    done | sort -u >"$WORK/ids"
    ids=$(wc -l <"$WORK/ids")
    if [ "$ids" -ge "${#REPLICA_URLS[@]}" ]; then
        found ok "it reaches every replica" "$ids of ${#REPLICA_URLS[@]}"
    else
        found FAILED "it reaches every replica" "$ids of ${#REPLICA_URLS[@]}"
    fi
fi

say "Endpoints"
expect 200 "the page" "$URL/"
expect 200 "the documentation" "$URL/docs"
expect 200 "the description of the API" "$URL/openapi.json"
[ -z "$KEY_FILE" ] || expect 401 "nothing without a key" "$URL/v1/models"
keyed 200 "the models" "$URL/v1/models"
TURN='{"topic":"photosynthesis","explanation":"Plants make sugar from light somehow.","session_id":"health-check","short_term_memory":[]}'
JSON=(-H "content-type: application/json" -m 120 --data-binary "$TURN")
keyed 200 "a turn" "$URL/chat" "${JSON[@]}" && holds "a turn has questions" '"questions"'
keyed 200 "a streamed turn" "$URL/chat/stream" "${JSON[@]}" && holds "a streamed turn ends" '[END_OF_STREAM]'

say "Stores"
if keyed 200 "health" "$URL/health"; then
    holds "the state" '"status":"pass"'
    holds "the store's check" '"store:responseTime"'
    # The store's check follows its name; what it took is its observed value.
    took=$(grep -oE '"store:responseTime":\[\{[^]]*' "$WORK/body" | grep -oE '"observedValue":[0-9.eE+-]+' | cut -d: -f2)
    if awk -v took="${took:-1e9}" 'BEGIN { exit !(took < 100) }'; then
        found ok "a query takes less than 100 ms" "$took ms"
    else
        found FAILED "a query takes less than 100 ms" "${took:-no figure}"
    fi
fi
for replica in "${REPLICA_URLS[@]}"; do
    keyed 200 "$replica: metrics" "$replica/metrics" || continue
    if grep -q '^lyceum_queue_ledger_linked{[^}]*} 1$' "$WORK/body"; then
        found ok "$replica: shares its quota" "linked"
    elif grep -q '^lyceum_queue_ledger_linked' "$WORK/body"; then
        found FAILED "$replica: shares its quota" "Redis is out of reach"
    fi
done

if [ "$REQUESTS" -gt 0 ]; then
    say "Benchmark: $REQUESTS turns, $AT_ONCE at once"
    began=$(date +%s.%N)
    seq 1 "$REQUESTS" | xargs -P "$AT_ONCE" -I{} curl -sS -m 120 -o /dev/null -w '%{http_code} %{time_total}\n' \
        -H "@$WORK/headers" -H "content-type: application/json" \
        --data-binary "${TURN/health-check/health-check-{\}}" "$URL/chat" >"$WORK/times" 2>"$WORK/error"
    ended=$(date +%s.%N)
    good=$(grep -c '^200 ' "$WORK/times")
    sort -k2,2n "$WORK/times" | awk -v began="$began" -v ended="$ended" '
        { took[NR] = $2 }
        function at(share, place) { place = int(NR * share + 0.999999); return took[place < 1 ? 1 : place] }
        END { printf "%.3f %.3f %.1f\n", at(0.5), at(0.95), NR / (ended - began) }' >"$WORK/figures"
    read -r p50 p95 rate <"$WORK/figures"
    if [ "$good" = "$REQUESTS" ]; then
        found ok "every turn is answered" "$good of $REQUESTS"
    else
        found FAILED "every turn is answered" "$good of $REQUESTS; $(cut -d' ' -f1 "$WORK/times" | sort | uniq -c | tr -s ' \n' ' ')"
    fi
    if awk -v p95="$p95" -v most="$MAX_P95" 'BEGIN { exit !(p95 <= most) }'; then
        found ok "95 % of turns within $MAX_P95 s" "p50 $p50 s, p95 $p95 s, $rate a second"
    else
        found FAILED "95 % of turns within $MAX_P95 s" "p50 $p50 s, p95 $p95 s, $rate a second"
    fi
fi

if [ -n "$REPORT" ]; then
    {
        printf '# Health of %s\n\n%s, %s failed of %s.\n\n| result | check | found |\n|---|---|---|\n' \
            "$URL" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$FAILED" "${#ROWS[@]}"
        printf '%s\n' "${ROWS[@]}"
    } >"$REPORT" || die 3 "the report cannot be written: $REPORT"
    say "The report is $REPORT."
fi
if [ "$FAILED" -gt 0 ]; then
    say "$FAILED of ${#ROWS[@]} checks failed."
    exit 1
fi
say "All ${#ROWS[@]} checks passed."
