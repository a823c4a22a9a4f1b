#!/bin/bash
# Sets up Elasticsearch and Kibana, and changes nothing the second time: users with few rights, the
# indices' 30 days, their templates, Kibana's views. Passwords are files in SECRETS_DIR.
set -euo pipefail
elastic=${ELASTICSEARCH_URL:?where Elasticsearch is}
kibana=${KIBANA_URL:?where Kibana is}
secrets=${SECRETS_DIR:-/run/secrets}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The password stands in no list of processes.
printf 'user = "elastic:%s"\n' "$(<"$secrets/elastic_password")" >"$work/curl"

# call METHOD URL [CURL ARGUMENTS]: ends with what the other side says when it refuses.
call() {
    local method=$1 url=$2 status
    shift 2
    status=$(curl -sS -K "$work/curl" -X "$method" -o "$work/answer" -w '%{http_code}' "$@" "$url")
    if [ "$status" -ge 300 ]; then
        printf 'setup: %s %s answers %s: %s\n' "$method" "$url" "$status" "$(<"$work/answer")" >&2
        exit 1
    fi
    printf 'setup: %s %s\n' "$method" "$url"
}

json() { call "$1" "$2" -H 'content-type: application/json' --data-binary "$3"; }

json PUT "$elastic/_ilm/policy/lyceum-30-days" "@$here/elasticsearch/ilm.json"
for template in app app-errors app-performance; do
    json PUT "$elastic/_index_template/$template" "@$here/elasticsearch/$template.json"
done

json PUT "$elastic/_security/role/lyceum_logstash" \
    '{"cluster":["monitor"],"indices":[{"names":["app-*"],"privileges":["create_index","create_doc","auto_configure"]}]}'
json PUT "$elastic/_security/role/lyceum_monitor" \
    '{"cluster":["monitor"],"indices":[{"names":["*"],"privileges":["monitor"]}]}'
user() {
    printf '{"password":"%s","roles":["%s"]}' "$(<"$secrets/$2")" "$1" >"$work/user"
    json PUT "$elastic/_security/user/$1" "@$work/user"
}
user lyceum_logstash logstash_password
user lyceum_monitor elastic_monitor_password
printf '{"password":"%s"}' "$(<"$secrets/kibana_password")" >"$work/user"
json PUT "$elastic/_security/user/kibana_system/_password" "@$work/user"

# Kibana starts when its user has its password.
end=$((SECONDS + ${KIBANA_SECONDS:-240}))
until curl -sS -o /dev/null -f -K "$work/curl" "$kibana/api/status" 2>/dev/null; do
    [ "$SECONDS" -lt "$end" ] || { printf 'setup: Kibana does not answer at %s\n' "$kibana" >&2; exit 1; }
    sleep 2
done
call POST "$kibana/api/saved_objects/_import?overwrite=true" -H 'kbn-xsrf: setup' -F "file=@$here/kibana/lyceum.ndjson"
grep -q '"success":true' "$work/answer" || { printf 'setup: Kibana took not everything: %s\n' "$(<"$work/answer")" >&2; exit 1; }
