#!/bin/bash
# Run once by the image of PostgreSQL, on an empty data directory: the server's database and a user
# who owns it and nothing else, and one who only watches. Passwords are files.
set -euo pipefail
secrets=${KIT_PASSWORDS:-/run/secrets}
psql -v ON_ERROR_STOP=1 --quiet --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    -v lyceum="$(<"$secrets/lyceum_db_password")" -v monitor="$(<"$secrets/monitor_db_password")" <<'SQL'
CREATE ROLE lyceum LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD :'lyceum';
CREATE DATABASE lyceum OWNER lyceum;
REVOKE ALL ON DATABASE lyceum FROM PUBLIC;
CREATE ROLE monitor LOGIN NOSUPERUSER PASSWORD :'monitor';
GRANT pg_monitor TO monitor;
GRANT CONNECT ON DATABASE lyceum TO monitor;
SQL
