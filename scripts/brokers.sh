#!/usr/bin/env bash
# Installs the brokers that triggers speak to, and PostgreSQL, and runs them on loopback as whoever calls this, with their
# data in .state/brokers. Usage: brokers.sh [start|stop|install]. Their packages start no service of the system's.
set -euo pipefail
cd "$(dirname "$0")/.."

place=$PWD/.state/brokers
redis_port=16379 nats_port=14222 mqtt_port=11883 amqp_port=15672 epmd_port=14369 amqp_peer_port=25673 postgres_port=15432

install() {
  command -v redis-server >/dev/null || bash scripts/packages.sh redis-server
  command -v nats-server >/dev/null || bash scripts/packages.sh nats-server
  command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || bash scripts/packages.sh mosquitto
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || bash scripts/packages.sh rabbitmq-server
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || bash scripts/packages.sh postgresql
}

running() {
  local pid
  pid=$(cat "$place/$1/pid" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null
}

# run NAME COMMAND...: in a process group of its own, its output in NAME/log.
run() {
  local name=$1
  shift
  running "$name" && return 0
  mkdir -p "$place/$name"
  (cd "$place/$name" && HOME=$place/$name exec setsid "$@" >>"$place/$name/log" 2>&1 </dev/null) &
  echo $! >"$place/$name/pid"
}

# await NAME PORT SECONDS: until it listens.
await() {
  for _ in $(seq $(($3 * 10))); do
    (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null && return 0
    running "$1" || break
    sleep 0.1
  done
  echo "$1 did not start; its log:" >&2
  tail -n 20 "$place/$1/log" >&2
  return 1
}

start() {
  install
  mkdir -p "$place"/{redis,nats,mosquitto,rabbitmq,epmd,postgres}
  run redis redis-server --port $redis_port --bind 127.0.0.1 --dir "$place/redis" --appendonly yes --appendfsync always
  run nats nats-server -a 127.0.0.1 -p $nats_port -js -sd "$place/nats/data"
  cat >"$place/mosquitto/conf" <<END
listener $mqtt_port 127.0.0.1
allow_anonymous true
persistence true
persistence_location $place/mosquitto/
autosave_interval 1
autosave_on_changes true
user $(id -un)
END
  run mosquitto "$(command -v mosquitto || echo /usr/sbin/mosquitto)" -c "$place/mosquitto/conf"
  run epmd epmd -address 127.0.0.1 -port $epmd_port
  await epmd $epmd_port 10
  printf 'listeners.tcp.1 = 127.0.0.1:%s\n' $amqp_port >"$place/rabbitmq/rabbitmq.conf"
  echo '[].' >"$place/rabbitmq/plugins"
  run rabbitmq env ERL_EPMD_PORT=$epmd_port ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_NODENAME=fuyun@localhost \
    RABBITMQ_DIST_PORT=$amqp_peer_port RABBITMQ_MNESIA_BASE="$place/rabbitmq/mnesia" RABBITMQ_LOG_BASE="$place/rabbitmq/logs" \
    RABBITMQ_CONFIG_FILE="$place/rabbitmq/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$place/rabbitmq/plugins" \
    RABBITMQ_PID_FILE="$place/rabbitmq/node.pid" RABBITMQ_CONF_ENV_FILE="$place/rabbitmq/none" \
    /usr/lib/rabbitmq/bin/rabbitmq-server
  start_postgres
  await redis $redis_port 10
  await nats $nats_port 10
  await mosquitto $mqtt_port 10
  await postgres $postgres_port 20
  await rabbitmq $amqp_port 60
  cat <<END
redis     redis://127.0.0.1:$redis_port/0
nats      nats://127.0.0.1:$nats_port
mqtt      mqtt://127.0.0.1:$mqtt_port
rabbitmq  amqp://127.0.0.1:$amqp_port
postgres  postgresql://postgres@127.0.0.1:$postgres_port/postgres
END
}

# PostgreSQL does not run as root: then as the account that its package made.
start_postgres() {
  running postgres && return 0
  local bin as=()
  bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1)
  if [ "$(id -u)" -eq 0 ]; then
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    chown -R postgres "$place/postgres"
  fi
  # Below folders that others may not enter, its own account could not reach its data.
  if ! "${as[@]}" test -w "$place/postgres"; then
    echo "postgres: $place cannot be entered by the account postgres; it is left out" >&2
    return 0
  fi
  [ -d "$place/postgres/data" ] || (cd / && "${as[@]}" "$bin/initdb" -D "$place/postgres/data" -U postgres -A trust >/dev/null)
  run postgres "${as[@]}" "$bin/postgres" -D "$place/postgres/data" -h 127.0.0.1 -p $postgres_port -k "" -c wal_level=logical
}

stop() {
  local name pid
  for name in rabbitmq epmd redis nats mosquitto postgres; do
    if running "$name"; then
      pid=$(cat "$place/$name/pid")
      kill -TERM -- "-$pid" 2>/dev/null || kill -TERM "$pid"
      for _ in $(seq 100); do
        running "$name" || break
        sleep 0.1
      done
      running "$name" && kill -KILL -- "-$pid" 2>/dev/null || true
    fi
    rm -f "$place/$name/pid"
  done
}

case ${1:-start} in
start | stop | install) "${1:-start}" ;;
*)
  echo "usage: scripts/brokers.sh [start|stop|install]" >&2
  exit 2
  ;;
esac
