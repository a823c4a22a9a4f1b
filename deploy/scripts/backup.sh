#!/usr/bin/env bash
# Backups of the stores while they run, and their restoring.
set -uo pipefail
# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
    cat <<'TEXT'
usage: backup.sh sqlite   FILE|FOLDER DESTINATION
       backup.sh postgres DESTINATION           the database of $STORE_URL
       backup.sh qdrant   URL DESTINATION       every collection; key in $QDRANT_API_KEY
       backup.sh restore-sqlite   BACKUP FILE|FOLDER
       backup.sh restore-postgres BACKUP        into the database of $STORE_URL
       backup.sh restore-qdrant   BACKUP URL

DESTINATION is a folder; the name of what is written there is printed. A backup that could not be
read again is no success. Replicas may run during a backup.

  sqlite    lyceum.db of the data directory, by SQLite's own backup: a state of one instant
  postgres  pg_dump's custom format, read again by pg_restore. The user must be one for whom
            row-level security does not hold: `backup`, whom postgres/init.sh makes
  qdrant    a snapshot of each collection, downloaded. It can do without: vectors are made again
            from the memories

Restoring SQLite needs the server to be stopped, and refuses a file that is there. Restoring
PostgreSQL replaces the schema `lyceum` in one transaction, as the user who owns it (`lyceum`): stop
the replicas first.

Exit codes: 0 done, 1 it failed, 2 wrong use, 3 a program is missing.
TEXT
}

[ $# -gt 0 ] || wrong_use "what to back up is missing"
KIND=$1
shift
STAMP=$(date -u +%Y%m%dT%H%M%SZ)

arguments() { [ "$2" -eq "$1" ] || wrong_use "$KIND wants $1 arguments"; }

destination() { mkdir -p "$1" || die 1 "the folder $1 cannot be made"; }

# The file of a data directory.
database_of() { if [ -d "$1" ]; then printf '%s/lyceum.db' "${1%/}"; else printf '%s' "$1"; fi; }

# copy_sqlite FROM TO: SQLite's online backup, then a check of every page.
copy_sqlite() {
    python3 - "$1" "$2" <<'PYTHON'
import pathlib
import sqlite3
import sys

source, target = sys.argv[1:]
# Read only, so that a wrong name makes no new file.
with sqlite3.connect(pathlib.Path(source).resolve().as_uri() + "?mode=ro", uri=True, timeout=30) as old:
    with sqlite3.connect(target) as new:
        old.backup(new, pages=1024, sleep=0.01)
        state = new.execute("PRAGMA integrity_check").fetchone()[0]
        # One file, whatever the mode of the original.
        new.execute("PRAGMA journal_mode = DELETE")
if state != "ok":
    sys.exit(f"the copy is damaged: {state}")
PYTHON
}

# Passwords stand in no list of processes: the address goes through a service file.
postgres_connection() {
    [ -n "${STORE_URL:-}" ] || wrong_use "STORE_URL, the database's address, is not set"
    PG=$(find_program pg_dump) || die 3 "pg_dump is missing: apt-get install postgresql-client"
    PG=$(dirname "$(readlink -f "$PG")")
    [ -x "$PG/pg_restore" ] || PG=$(dirname "$(readlink -f "$(find_program initdb)")")
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    python3 - "$WORK/service" <<'PYTHON' || die 2 "STORE_URL is no address of PostgreSQL"
import os
import sys
import urllib.parse

url = urllib.parse.urlsplit(os.environ["STORE_URL"])
if not url.scheme.startswith("postgres") or not url.path.strip("/"):
    sys.exit(1)
lines = {"host": url.hostname, "port": url.port, "user": url.username, "password": url.password}
lines["dbname"] = url.path.strip("/")
with open(sys.argv[1], "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
    file.write("[store]\n")
    for name, value in lines.items():
        if value is not None:
            file.write(f"{name}={urllib.parse.unquote(str(value))}\n")
PYTHON
    export PGSERVICEFILE=$WORK/service PGSERVICE=store
}

# qdrant METHOD URL [CURL ARGUMENTS]: the body, or what is wrong.
qdrant() {
    local method=$1 url=$2
    shift 2
    curl -sS --fail-with-body -m 600 -X "$method" -K "$WORK/curl" "$@" "$url"
}

qdrant_connection() {
    need curl "apt-get install curl"
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    : >"$WORK/curl"
    [ -z "${QDRANT_API_KEY:-}" ] || printf 'header = "api-key: %s"\n' "$QDRANT_API_KEY" >"$WORK/curl"
}

case $KIND in
-h | --help) usage ;;
sqlite)
    arguments 2 $#
    need python3 "apt-get install python3"
    from=$(database_of "$1")
    [ -f "$from" ] || die 2 "there is no database $from"
    destination "$2"
    file=$2/lyceum-$STAMP.db
    copy_sqlite "$from" "$file.new" || { rm -f "$file.new"; die 1 "the backup failed"; }
    mv "$file.new" "$file"
    say "$file"
    ;;
restore-sqlite)
    arguments 2 $#
    need python3 "apt-get install python3"
    [ -f "$1" ] || die 2 "there is no backup $1"
    to=$(database_of "$2")
    [ ! -e "$to" ] || die 2 "$to is there: stop the server, then move it and its -wal and -shm away"
    rm -f "$to-wal" "$to-shm"
    copy_sqlite "$1" "$to.new" || { rm -f "$to.new"; die 1 "the backup cannot be read"; }
    mv "$to.new" "$to"
    say "$to"
    ;;
postgres)
    arguments 1 $#
    postgres_connection
    destination "$1"
    file=$1/lyceum-$STAMP.dump
    if ! { "$PG/pg_dump" --format=custom --no-owner --no-privileges --schema=lyceum --file="$file.new" &&
        "$PG/pg_restore" --list "$file.new" >"$WORK/list" && grep -q ' TABLE DATA lyceum ' "$WORK/list"; }; then
        rm -f "$file.new"
        die 1 "the backup failed, or holds no table of the server"
    fi
    mv "$file.new" "$file"
    say "$file"
    ;;
restore-postgres)
    arguments 1 $#
    [ -f "$1" ] || die 2 "there is no backup $1"
    postgres_connection
    # As text, so that leaving the old and filling the new is one transaction.
    {
        printf 'SET client_min_messages = warning;\nDROP SCHEMA IF EXISTS lyceum CASCADE;\n'
        "$PG/pg_restore" --no-owner --file=- "$1"
    } | "$PG/psql" -q -X -v ON_ERROR_STOP=1 --single-transaction -f - >/dev/null ||
        die 1 "nothing was changed: the backup could not be restored"
    say "restored $1"
    ;;
qdrant)
    arguments 2 $#
    qdrant_connection
    destination "$2"
    url=${1%/}
    qdrant GET "$url/collections" >"$WORK/list" || die 1 "Qdrant does not answer at $url: $(<"$WORK/list")"
    names=$(python3 -c 'import json,sys; print(*(c["name"] for c in json.load(sys.stdin)["result"]["collections"]), sep="\n")' <"$WORK/list")
    folder=$2/qdrant-$STAMP
    mkdir "$folder.new" || die 1 "the folder $folder.new cannot be made"
    for name in $names; do
        qdrant POST "$url/collections/$name/snapshots?wait=true" >"$WORK/made" || die 1 "no snapshot of $name: $(<"$WORK/made")"
        snapshot=$(python3 -c 'import json,sys; print(json.load(sys.stdin)["result"]["name"])' <"$WORK/made")
        qdrant GET "$url/collections/$name/snapshots/$snapshot" -o "$folder.new/$name.snapshot" || die 1 "the snapshot of $name cannot be read"
        qdrant DELETE "$url/collections/$name/snapshots/$snapshot" >/dev/null || die 1 "the snapshot of $name stays at the server"
    done
    mv "$folder.new" "$folder"
    say "$folder"
    ;;
restore-qdrant)
    arguments 2 $#
    [ -d "$1" ] || die 2 "there is no backup $1"
    qdrant_connection
    for file in "$1"/*.snapshot; do
        [ -f "$file" ] || die 2 "$1 holds no snapshots"
        name=$(basename "$file" .snapshot)
        qdrant POST "${2%/}/collections/$name/snapshots/upload?priority=snapshot&wait=true" -F "snapshot=@$file" >"$WORK/answer" ||
            die 1 "$name could not be restored: $(<"$WORK/answer")"
    done
    say "restored $1"
    ;;
*) wrong_use "unknown store $KIND" ;;
esac
