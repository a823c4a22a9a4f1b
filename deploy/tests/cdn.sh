#!/usr/bin/env bash
# Asks a server, or the CDN before it, whether what deploy/cdn.md says of caching holds.
# usage: cdn.sh URL
set -uo pipefail
URL=${1:?where the page is}
URL=${URL%/}
FAILED=0

# header PATH NAME
header() {
    curl -sS -m 10 -o /dev/null -D- -H "accept-encoding: gzip, br" "$URL$1" | tr -d '\r' |
        awk -v name="$2:" 'tolower($1) == name { $1 = ""; print substr($0, 2) }'
}

# is PATH NAME VALUE
is() {
    local found
    found=$(header "$1" "$2")
    if [ "$found" = "$3" ]; then
        printf 'ok      %s: %s: %s\n' "$1" "$2" "$found"
    else
        printf 'FAILED  %s: %s is %s, not %s\n' "$1" "$2" "${found:-missing}" "$3"
        FAILED=1
    fi
}

part=$(curl -sS -m 10 "$URL/" | grep -oE '/assets/app\.js\?v=[0-9a-f]+' | head -n 1)
[ -n "$part" ] || { printf 'FAILED  the page names no part by its content\n'; exit 1; }
is / cache-control no-cache
is /docs cache-control no-cache
is "$part" cache-control "public, max-age=31536000, immutable"
is "${part%%\?*}" cache-control no-cache
is "${part%%=*}=0000000000000000" cache-control no-cache
is /health cache-control no-store
is "$part" content-encoding br
tag=$(header / etag)
status=$(curl -sS -m 10 -o /dev/null -w '%{http_code}' -H "if-none-match: $tag" "$URL/")
if [ "$status" = 304 ]; then
    printf 'ok      /: 304 for who has it\n'
else
    printf 'FAILED  /: %s instead of 304 with %s\n' "$status" "$tag"
    FAILED=1
fi
exit "$FAILED"
