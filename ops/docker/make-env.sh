#!/bin/sh
# Writes the .env of compose.yaml with fresh random passwords: sh ops/docker/make-env.sh ops/docker/.env
# Say DEPOT_HOST=name in front when others than this machine shall download pictures.
# A file that is there is left alone: PostgreSQL and the store keep the first passwords that they are given.
set -euC
umask 077
: "${1:?Say where to write: sh ops/docker/make-env.sh ops/docker/.env}"

secret() { # 160 bits in hexadecimal, which needs no quoting in URLs and files
    od -An -N20 -tx1 /dev/urandom | tr -d ' \n'
}

gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true)
if [ "${gpus:-0}" -gt 0 ]; then profile=gpu; else profile=cpu gpus=1; fi

cat > "$1" <<EOF
COMPOSE_PROFILES=$profile
GPUS=$gpus
DEPOT_HOST=${DEPOT_HOST:-depot.localhost}
OWNER_PASSWORD=$(secret)
API_PASSWORD=$(secret)
SCHEDULER_PASSWORD=$(secret)
DEPOT_ACCESS_KEY=$(secret)
DEPOT_SECRET_KEY=$(secret)
DEPOT_WRITE_KEY=$(secret)
DEPOT_READ_KEY=$(secret)
DEPOT_FILER_WRITE_KEY=$(secret)
DEPOT_FILER_READ_KEY=$(secret)
RAY_TOKEN=$(secret)
GRAFANA_PASSWORD=$(secret)
EOF
