# shellcheck shell=bash
# What the scripts share. Exit codes: 1 a check failed, 2 wrong use, 3 something is missing here,
# 4 something did not start in time.

KIT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }

die() {
    local code=$1
    shift
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit "$code"
}

wrong_use() { die 2 "$1; --help says how"; }

# need PROGRAM WHERE_FROM
need() { command -v "$1" >/dev/null || die 3 "$1 is missing: $2"; }

# The path of a program, which Debian may keep off the PATH.
find_program() {
    command -v "$1" 2>/dev/null && return
    local place
    for place in /usr/sbin /usr/lib/postgresql/*/bin; do
        [ -x "$place/$1" ] && printf '%s\n' "$place/$1" && return
    done
    return 1
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# 64 hexadecimal digits.
random_hex() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# write_once FILE: keeps what is there; else writes standard input. Files are readable, because the
# users of containers read them; their folder is not.
write_once() {
    if [ -s "$1" ]; then
        cat >/dev/null
    else
        cat >"$1.new"
        chmod 0444 "$1.new"
        mv "$1.new" "$1"
    fi
}

# need_docker: the engine and the plugin, or a way out.
need_docker() {
    need docker "install Docker Engine, or use --local"
    docker compose version >/dev/null 2>&1 || die 3 "the Docker plugin compose is missing: install docker-compose-plugin, or use --local"
    docker info >/dev/null 2>&1 || die 3 "the Docker engine does not answer: start it, or use --local"
}

# make_key FOLDER NAME SCOPES: a key of the server in FOLDER/NAME_key, its lines in FOLDER/keys.toml.
make_key() {
    local file=$1/$2_key digest
    [ -s "$file" ] && return
    printf 'lyc-%s' "$(random_hex)" | write_once "$file"
    digest=$(sha256sum "$file" | cut -d' ' -f1)
    printf '\n[[auth.keys]]\nname = "%s"\ntenant = "%s"\nsha256 = "%s"\n' "$2" "$2" "$digest" >>"$1/keys.toml"
    [ -z "$3" ] || printf 'scopes = [%s]\n' "$3" >>"$1/keys.toml"
}

# make_secrets FOLDER: every secret of both compose files, made once and kept.
make_secrets() {
    local folder=$1 name key
    mkdir -p "$folder"
    chmod 0700 "$folder"
    for name in postgres_password lyceum_db_password backup_db_password monitor_db_password redis_password qdrant_key \
        grafana_password elastic_password kibana_password logstash_password elastic_monitor_password; do
        random_hex | write_once "$folder/$name"
    done
    # Channels of alerts are yours to fill in; until then AlertManager says that it cannot send.
    for name in slack_url smtp_password pagerduty_key; do
        echo "https://example.invalid/replace-me" | write_once "$folder/$name"
    done
    make_key "$folder" operator ''
    make_key "$folder" prometheus '"metrics"'
    key=$(<"$folder/redis_password")
    printf 'requirepass %s\nmaxmemory 384mb\nmaxmemory-policy noeviction\nsave ""\nappendonly no\n' "$key" |
        write_once "$folder/redis.conf"
    printf '{"redis://redis:6379": "%s"}\n' "$key" | write_once "$folder/redis_exporter"
    printf 'QDRANT__SERVICE__API_KEY=%s\n' "$(<"$folder/qdrant_key")" | write_once "$folder/qdrant.env"
    {
        printf '# What the server reads from its environment. Add the key of your provider here:\n# OPENAI_API_KEY=\n'
        printf 'LYCEUM_STORE__URL=postgresql://lyceum:%s@postgres:5432/lyceum\n' "$(<"$folder/lyceum_db_password")"
        printf 'LYCEUM_REDIS__URL=redis://:%s@redis:6379\n' "$key"
    } | write_once "$folder/lyceum.env"
    # Traefik's dashboard: user operator, password in dashboard_password.
    random_hex | write_once "$folder/dashboard_password"
    printf 'operator:{SHA}%s\n' "$(sha1_base64 <"$folder/dashboard_password")" | write_once "$folder/operators"
    cat "$KIT/compose/lyceum.toml" "$folder/keys.toml" >"$folder/lyceum.toml.new"
    chmod 0444 "$folder/lyceum.toml.new"
    mv -f "$folder/lyceum.toml.new" "$folder/lyceum.toml"
}

# As `htpasswd -s` writes it. The password has 256 bits, so that a fast digest gives nothing away.
sha1_base64() { sha1sum | cut -d' ' -f1 | sed 's/../\\x&/g' | xargs -0 printf '%b' | base64; }
