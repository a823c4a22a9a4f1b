#!/bin/bash
# Run once on an empty volume: the user and the database of the server; and one who reads it
# for backups. The addresses in the secret have the passwords.
set -euo pipefail
# password_of KEY USER: what stands between the user and the host.
password_of() {
    local url
    url=$(<"/run/secrets/lyceum/$1")
    url=${url#*://"$2":}
    printf '%s' "${url%%@*}"
}
psql -v ON_ERROR_STOP=1 --quiet --username postgres --dbname postgres \
    -v lyceum="$(password_of store-url lyceum)" -v backup="$(password_of backup-url backup)" <<'SQL'
SET log_min_duration_statement = -1;
CREATE ROLE lyceum LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD :'lyceum';
CREATE DATABASE lyceum OWNER lyceum;
CREATE ROLE backup LOGIN NOSUPERUSER BYPASSRLS PASSWORD :'backup';
GRANT pg_read_all_data TO backup;
GRANT CONNECT ON DATABASE lyceum TO backup;
REVOKE ALL ON DATABASE lyceum FROM PUBLIC;
SQL
