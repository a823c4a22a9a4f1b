#!/bin/bash
# Run once by the image of PostgreSQL, on an empty data directory: the server's database and a user
# who owns it and nothing else, one who reads it for backups, and one who only watches. Passwords are files.
set -euo pipefail
secrets=${KIT_PASSWORDS:-/run/secrets}
psql -v ON_ERROR_STOP=1 --quiet --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    -v lyceum="$(<"$secrets/lyceum_db_password")" -v backup="$(<"$secrets/backup_db_password")" \
    -v monitor="$(<"$secrets/monitor_db_password")" <<'SQL'
-- No password may come into the log, however slow the statement.
SET log_min_duration_statement = -1;
CREATE ROLE lyceum LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD :'lyceum';
CREATE DATABASE lyceum OWNER lyceum;
REVOKE ALL ON DATABASE lyceum FROM PUBLIC;
-- Row-level security holds for the tables' owner too, who therefore cannot copy them all.
CREATE ROLE backup LOGIN NOSUPERUSER BYPASSRLS PASSWORD :'backup';
GRANT pg_read_all_data TO backup;
GRANT CONNECT ON DATABASE lyceum TO backup;
CREATE ROLE monitor LOGIN NOSUPERUSER PASSWORD :'monitor';
GRANT pg_monitor TO monitor;
GRANT CONNECT ON DATABASE lyceum TO monitor;
SQL
