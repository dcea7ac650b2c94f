#!/usr/bin/env bash
# Makes what compose.yaml needs and nobody may see: .env with passwords, and secrets/ with an authority, the certificates it signs
# and Redis' configuration; all of mode 0600 but the authority's certificate. What is there is kept, so that it can run again:
# remove a file to have it made anew, remove a line of .env to have that password made anew. Also makes the folders for data.
#   deployments/stack/make-secrets.sh ADDRESS [FOLDER]
# ADDRESS is the name or IP address that people and hosts use; FOLDER is that of compose.yaml.
set -euo pipefail
umask 077

address=${1:?usage: make-secrets.sh ADDRESS [FOLDER]}
folder=$(cd "${2:-$(dirname "${BASH_SOURCE[0]}")/..}" && pwd)
secrets=$folder/secrets
env=$folder/.env
uid=$(id -u) gid=$(id -g)
[ "$uid" -ne 0 ] || uid=10001 gid=10001 # PostgreSQL refuses to be root
mkdir -p "$secrets/minio/CAs"
touch "$env"

remember() { # a line NAME=VALUE of .env, unless it has one
    grep -q "^$1=" "$env" || printf '%s=%s\n' "$1" "$2" >>"$env"
}

password() { openssl rand -hex 24; }

subject() { # as certificates name it
    [[ $1 =~ ^[0-9.]+$|: ]] && printf 'IP:%s' "$1" || printf 'DNS:%s' "$1"
}

authority() {
    [ -s "$secrets/ca.crt" ] && return
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=ims authority" \
        -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$secrets/ca.key" -out "$secrets/ca.crt" 2>/dev/null
    chmod 644 "$secrets/ca.crt"
}

certificate() { # NAME ALTERNATIVES: NAME.crt and NAME.key, for two years
    [ -s "$secrets/$1.crt" ] && return
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 730 -subj "/CN=$1" \
        -CA "$secrets/ca.crt" -CAkey "$secrets/ca.key" -addext "subjectAltName=$2" -addext basicConstraints=critical,CA:FALSE \
        -addext extendedKeyUsage=serverAuth -keyout "$secrets/$1.key" -out "$secrets/$1.crt" 2>/dev/null
}

remember IMS_ADDRESS "$address"
remember IMS_BIND 127.0.0.1
remember IMS_RELEASE local
remember IMS_UID "$uid"
remember IMS_GID "$gid"
remember IMS_DATA "$folder/data"
remember POSTGRES_PASSWORD "$(password)"
remember IMS_DB_PASSWORD "$(password)"
remember PREFECT_DB_PASSWORD "$(password)"
remember REDIS_PASSWORD "$(password)"
remember MINIO_ROOT_USER root
remember MINIO_ROOT_PASSWORD "$(password)"
remember IMS_S3_ACCESS_KEY ims
remember IMS_S3_SECRET_KEY "$(password)"
remember IMS_PREFECT_AUTH "admin:$(password)"

authority
certificate address "$(subject "$address")"
certificate s3 "$(subject "$address"),DNS:minio"
certificate postgres "$(subject "$address"),DNS:postgres"
cat "$secrets/address.crt" "$secrets/address.key" >"$secrets/address.pem"
cp "$secrets/s3.crt" "$secrets/minio/public.crt"
cp "$secrets/s3.key" "$secrets/minio/private.key"
cp "$secrets/ca.crt" "$secrets/minio/CAs/ca.crt"
printf 'appendonly yes\nmaxmemory-policy noeviction\nrequirepass %s\n' "$(sed -n 's/^REDIS_PASSWORD=//p' "$env")" >"$secrets/redis.conf"
data=$(sed -n 's/^IMS_DATA=//p' "$env")
mkdir -p "$data"/{minio,postgres,redis}
if [ "$(id -u)" -eq 0 ]; then # what the containers read and write; the authority's key and .env stay root's
    chown "$uid:$gid" "$data"/{minio,postgres,redis} "$secrets"/{address.pem,redis.conf,postgres.crt,postgres.key}
    chown -R "$uid:$gid" "$secrets/minio"
fi
