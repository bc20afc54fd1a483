#!/usr/bin/env bash
# The whole story with a real OpenVPN tunnel: demo.sh [sqlite|postgres]…, both by default. Root.
#
#   client ──── internet ──── gateway ──── office        each in a network namespace of its own;
#   198.51.100.2       198.51.100.1│10.77.0.1   10.77.0.10    nothing of this machine's is touched
#                           192.0.2.2
#                                │
#                           192.0.2.1
#                            control
#
# Between its steps it prints each event as it lands in the history.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" -ne 0 ]; then
    echo "Network namespaces need root; asking for it." >&2
    exec sudo --preserve-env=GATEKEY_SERVER "$PWD/deploy/demo.sh" "$@"
fi
PATH=$PATH:/usr/sbin:/sbin

SERVER=${GATEKEY_SERVER:-$PWD/target/debug/gatekey-server}
SCRIPTS=$PWD/deploy/openvpn
ADMIN_PASSWORD='correct horse battery staple'
ADA_PASSWORD='a quiet pond at dusk'
URL=http://192.0.2.1:8080
# The office's web server: Debian always has Perl.
# shellcheck disable=SC2016
WIKI='
    my $server = IO::Socket::INET->new(LocalAddr => "10.77.0.10:8080", Listen => 5) or die $!;
    while (my $client = $server->accept) {
        while (<$client>) { last if /^\r?\n$/ }
        print $client "HTTP/1.0 200 OK\r\n\r\nthis is the office wiki\n";
        close $client;
    }'

# --- what it says -----------------------------------------------------------

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi

title() { printf '\n%s══ %s ══%s\n' "$bold" "$*" "$plain"; }
step() { printf '\n%s▶ %s%s\n' "$bold" "$*" "$plain"; }
say() { printf '  %s\n' "$*"; }

stop_here() {
    printf '\n%s\n' "demo: $*" >&2
    for log in "$work"/*.log; do
        [ -s "$log" ] && printf '\n--- %s ---\n%s\n' "${log##*/}" "$(tail -n 30 "$log")" >&2
    done
    exit 1
}

# --- namespaces -------------------------------------------------------------

netns=gk-demo-$$
within() { ip netns exec "$netns-$1" "${@:2}"; }

# link A DEVICE ADDRESS B DEVICE ADDRESS
link() {
    ip link add "$2" netns "$netns-$1" type veth peer name "$5" netns "$netns-$4"
    ip -n "$netns-$1" address add "$3" dev "$2"
    ip -n "$netns-$4" address add "$6" dev "$5"
    ip -n "$netns-$1" link set "$2" up
    ip -n "$netns-$4" link set "$5" up
}

make_networks() {
    for role in control gateway client office; do
        ip netns add "$netns-$role"
        ip -n "$netns-$role" link set lo up
    done
    link client wan 198.51.100.2/24 gateway wan 198.51.100.1/24
    link office lan 10.77.0.10/24 gateway lan 10.77.0.1/24
    link control mgmt 192.0.2.1/24 gateway mgmt 192.0.2.2/24
    ip -n "$netns-office" route add default via 10.77.0.1
    within gateway sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
}

work=
cleanup() {
    for role in client gateway office control; do
        ip netns pids "$netns-$role" 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
        ip netns del "$netns-$role" 2>/dev/null || true
    done
    if [ -n "$work" ]; then
        [ ! -d "$work/postgres/data" ] || as_postgres pg_ctl -D "$work/postgres/data" -m immediate -w stop >/dev/null || true
        rm -rf "$work"
        work=
    fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# --- the control plane ------------------------------------------------------

as_postgres() {
    local binaries
    binaries=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    (cd / && setpriv --reuid=postgres --regid=postgres --clear-groups "$binaries/$1" "${@:2}")
}

# A PostgreSQL of its own, on a socket in the work directory; prints the database's URL.
start_postgres() {
    local here=$work/postgres
    chmod 711 "$work"
    install -d -o postgres "$here"
    as_postgres initdb -D "$here/data" --no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C >/dev/null
    as_postgres pg_ctl -D "$here/data" -w -l "$here/log" \
        -o "-c listen_addresses= -c unix_socket_directories=$here -c shared_buffers=32MB" start >/dev/null
    echo "postgres://postgres@localhost/postgres?host=$here"
}

start_server() {
    local url=()
    [ "$1" != postgres ] || url=("GATEKEY_DATABASE_URL=$(start_postgres)")
    within control env "${url[@]}" GATEKEY_LISTEN=192.0.2.1:8080 GATEKEY_DATA_DIR="$work/data" \
        GATEKEY_ADMIN_PASSWORD="$ADMIN_PASSWORD" "$SERVER" serve >"$work/server.log" 2>&1 &
    until grep -q 'GateKey listens on' "$work/server.log"; do
        kill -0 $! 2>/dev/null || stop_here "the server does not start"
        sleep 0.1
    done
    say "$(grep -m 1 'GateKey listens on' "$work/server.log")"
}

# api METHOD PATH [JSON]: as whoever $token is; what the API answers, which must be a success.
api() {
    local body=() answer
    [ $# -lt 3 ] || body=(--json "$3")
    answer=$(within control curl --silent --show-error --fail-with-body --max-time 10 \
        --header "Authorization: Bearer $token" -X "$1" "${body[@]}" "$URL/api/v1$2") ||
        stop_here "$1 $2: $answer"
    printf '%s' "$answer"
}

login() {
    within control curl --silent --show-error --fail-with-body --max-time 10 \
        --json "$(jq -cn --arg username "$1" --arg password "$2" '{$username, $password}')" \
        "$URL/api/v1/auth/local/login" | jq -er .data.token || stop_here "$1 cannot sign in"
}

# Prints the events that landed since the last time.
seen=0
events() {
    local new
    new=$(token=$admin api GET '/admin/audit?per_page=100' |
        jq -c --argjson seen "$seen" '.data | map(select(.position > $seen)) | sort_by(.position)')
    jq -r '.[] | [.position, .recorded_at[11:19], .event, (.actor.label // .actor.kind), .aggregate_id] | @tsv' <<<"$new" |
        while IFS=$'\t' read -r position at event actor aggregate; do
            printf '  %s%4s  %s%s  %-36s %s%s → %s%s\n' "$dim" "$position" "$at" "$plain" "$event" "$dim" "$actor" "$aggregate" "$plain"
        done
    seen=$(jq --argjson seen "$seen" '[$seen, .[].position] | max' <<<"$new")
}

# wait_until SECONDS WHAT COMMAND…: prints events while it waits.
wait_until() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || stop_here "$what: not in time"
        events
        # Slower than what an admin may ask comes back: 100 requests a minute.
        sleep 0.7
    done
    events
}

# --- the people's machines --------------------------------------------------

heartbeat() {
    GATEKEY_DIR=$work/gateway GATEKEY_RUN_DIR=$work/gateway/run within gateway "$SCRIPTS/heartbeat.sh" 2>>"$work/agent.log"
}

dial() {
    : >"$work/client.log"
    # Not by `within`: the id must be openvpn's, not a subshell's.
    ip netns exec "$netns-client" openvpn --config "$work/ada.ovpn" >"$work/client.log" 2>&1 &
    client=$!
}

# How the office's web server answers Ada, if it does.
office_page() { within client curl --silent --fail --max-time 1 http://10.77.0.10:8080/; }
no_office_page() { ! office_page; }

# --- the story --------------------------------------------------------------

story() {
    work=$(mktemp -d /tmp/gatekey-demo.XXXXXX)
    mkdir "$work/gateway"
    seen=0
    title "GateKey on $1"
    make_networks

    step 'The control plane starts: the first admin, the certificate authority'
    start_server "$1"
    admin=$(login admin "$ADMIN_PASSWORD")
    token=$admin
    events

    step 'The admin registers a gateway, a person, the network behind the gateway, and a rule'
    local gateway ada network rule
    gateway=$(api POST /admin/gateways '{"name": "us-east-1", "hostname": "198.51.100.1"}')
    (umask 077 && jq -r .data.token <<<"$gateway" >"$work/gateway/token")
    gateway=$(jq -r .data.id <<<"$gateway")
    ada=$(api POST /admin/users "$(jq -cn --arg password "$ADA_PASSWORD" \
        '{username: "ada", email: "ada@example.com", $password}')" | jq -r .data.id)
    network=$(api POST /admin/networks '{"name": "office", "cidr": "10.77.0.0/24"}' | jq -r .data.id)
    rule=$(api POST /admin/access-rules "$(jq -cn --arg network "$network" \
        '{name: "wiki", type: "ip", value: "10.77.0.10", port_range: "8080", protocol: "tcp",
          network_id: $network}')" | jq -r .data.id)
    api POST "/admin/gateways/$gateway/networks" "{\"network_id\": \"$network\"}" >/dev/null
    api POST "/admin/gateways/$gateway/users" "{\"user_id\": \"$ada\"}" >/dev/null
    api POST "/admin/access-rules/$rule/users" "{\"user_id\": \"$ada\"}" >/dev/null
    events

    step 'The gateway says hello, fetches its certificates, and starts OpenVPN'
    echo "GATEKEY_URL=$URL" >"$work/gateway/agent.env"
    heartbeat || stop_here 'no heartbeat'
    GATEKEY_DIR=$work/gateway GATEKEY_RUN_DIR=$work/gateway/run within gateway "$SCRIPTS/rules.sh" >>"$work/agent.log" 2>&1 &
    within gateway openvpn --config "$work/gateway/server.conf" >"$work/openvpn.log" 2>&1 &
    within office perl -MIO::Socket::INET -e "$WIKI" >/dev/null 2>&1 &
    wait_until 20 'OpenVPN starts' grep -q 'Initialization Sequence Completed' "$work/openvpn.log"

    step 'Ada signs in and generates her configuration: a certificate for one day'
    local config
    token=$(login ada "$ADA_PASSWORD")
    config=$(api POST /configs/generate "{\"gateway_id\": \"$gateway\", \"protocol\": \"openvpn\"}")
    (umask 077 && api GET "$(jq -r '.download_url | sub("^/api/v1"; "")' <<<"$config")" >"$work/ada.ovpn")
    token=$admin
    say "$(jq -r '"\(.config_id), until \(.expires_at)"' <<<"$config")"
    events

    step 'Without the tunnel the office is out of reach; with it, the wiki answers'
    no_office_page || stop_here 'the office is open to everyone'
    dial
    wait_until 30 'the tunnel comes up' office_page
    say "10.77.0.10:8080 says: $(office_page)"
    within client ping -c 1 -W 1 10.77.0.10 >/dev/null && stop_here 'ping was not allowed, and went through'
    say '10.77.0.10 does not answer a ping: no rule allows it'

    step 'The admin takes the rule away: the live tunnel loses the wiki within ten seconds'
    api DELETE "/admin/access-rules/$rule/users/$ada" >/dev/null
    wait_until 11 'the wiki is out of reach' no_office_page
    say 'the wiki is out of reach'

    step 'And gives it back'
    api POST "/admin/access-rules/$rule/users" "{\"user_id\": \"$ada\"}" >/dev/null
    wait_until 11 'the wiki answers again' office_page
    say "10.77.0.10:8080 says: $(office_page)"

    step 'Ada hangs up: the gateway reports time and bytes'
    kill "$client"
    wait "$client" 2>/dev/null || true
    ended() { api GET '/admin/connections?status=ended' | jq -e '.data | length == 1'; }
    wait_until 10 'the connection ends' ended
    say "$(api GET '/admin/connections?status=ended' | jq -r '.data[0] |
        "\(.user.email) from \(.client_ip) as \(.vpn_ip): \(.duration_seconds) s, \(.bytes_received) bytes in, \(.bytes_sent) out"')"

    step 'The admin revokes her certificate: verify refuses her at once, the revocation list for good'
    api POST /admin/pki/revoke "$(jq -c '{config_id, reason: "key_compromise"}' <<<"$config")" >/dev/null
    dial
    wait_until 30 'she is refused' grep -q AUTH_FAILED "$work/client.log"
    say "her client says: $(grep -m 1 -o 'AUTH_FAILED.*' "$work/client.log")"
    kill "$client" 2>/dev/null || true
    heartbeat || stop_here 'no heartbeat'
    events
    within gateway openssl crl -in "$work/gateway/crl.pem" -noout -text | grep -A 4 'Serial Number' | grep -v Signature | sed 's/^ */  /'

    title "That was GateKey on $1: $seen events"
    cleanup
    wait 2>/dev/null || true
}

[ -x "$SERVER" ] || { echo "demo: no server at $SERVER: cargo build" >&2; exit 1; }
[ $# -gt 0 ] || set -- sqlite postgres
for database in "$@"; do
    case $database in
        sqlite | postgres) story "$database" ;;
        *) echo "usage: demo.sh [sqlite|postgres]…" >&2; exit 2 ;;
    esac
done
