#!/bin/sh
# heartbeat.sh [--loop]: tells the control plane that this gateway lives and who is connected,
# provisions anew when asked to, refreshes the revocation list, and sends reports that were kept.
set -u
# shellcheck source=common.sh
. "${0%/*}/common.sh"
make_run_dirs
GATEKEY_HEARTBEAT_INTERVAL=${GATEKEY_HEARTBEAT_INTERVAL:-30}

openvpn_pid() {
    pid=$(cat "$GATEKEY_RUN_DIR/openvpn.pid" 2>/dev/null) || return 1
    case $pid in
        '' | *[!0-9]*) return 1 ;;
    esac
    # Neither dead, nor a corpse, nor someone else with its number.
    case $(readlink "/proc/$pid/exe") in
        */openvpn*) echo "$pid" ;;
        *) return 1 ;;
    esac
}

# Who is connected: the files that connect.sh wrote and disconnect.sh has not removed. A server that
# was killed removes none, so a file that is older than OpenVPN's own list must be on that list.
connected_clients() {
    list=$GATEKEY_RUN_DIR/status.log
    # Written every ten seconds while OpenVPN is well; without it nothing is said about clients,
    # because an empty list would say that there are none.
    [ -n "$(find "$list" -mmin -1 2>/dev/null)" ] || { echo null; return; }
    for client in "$GATEKEY_RUN_DIR/clients"/*; do
        [ -f "$client" ] || continue
        address=${client##*/}
        if cut -f 1,4 "$list" | grep -qxF "CLIENT_LIST	$address" ||
            [ -n "$(find "$client" -newer "$list")" ]; then
            jq -Rnc --arg address "$address" '[inputs]
                | { common_name: .[0], session_id: .[1], client_ip: .[2], vpn_ipv4: $address,
                    connected_at: .[3] } | with_entries(select(.value != ""))' "$client"
        fi
    done | jq -sc .
}

beat() {
    running=false
    clients=null
    if openvpn_pid >/dev/null; then
        running=true
        clients=$(connected_clients)
    fi
    config_version=$(cat "$GATEKEY_DIR/config_version" 2>/dev/null)
    occurred_at=$(now)
    export config_version occurred_at
    printf '%s' "$clients" | jq -c --argjson running "$running" '
        { public_ip: $ENV.GATEKEY_PUBLIC_IP, config_version: $ENV.config_version,
          openvpn_running: $running, active_clients: (. // [] | length), connected_clients: .,
          occurred_at: $ENV.occurred_at }
        | with_entries(select(.value != null and .value != ""))' |
        post_json 10 /gateway/heartbeat
}

reload_openvpn() {
    if [ -n "${GATEKEY_RELOAD:-}" ]; then
        sh -c "$GATEKEY_RELOAD"
    elif pid=$(openvpn_pid); then
        kill -HUP "$pid"
    fi
}

# Sends the kept reports, oldest first. What the control plane does not want goes as well.
send_kept() {
    for report in "$GATEKEY_RUN_DIR/spool"/*; do
        [ -f "$report" ] || return 0
        sent=$(post 5 /gateway/disconnect <"$report") || return 0
        case $(status "$sent") in
            2?? | 400 | 404 | 409 | 422) rm -f "$report" ;;
            *) return 0 ;;
        esac
    done
}

once() {
    answer=$(beat) || { log "no heartbeat"; return 1; }
    if [ "$(printf '%s' "$answer" | jq -r '.needs_reprovision == true')" = true ]; then
        GATEKEY_CONFIG_VERSION=$(printf '%s' "$answer" | jq -r '.config_version // ""')
        export GATEKEY_CONFIG_VERSION
        changed=$("$GATEKEY_SHARE/provision.sh") || return 1
        if [ "$changed" = changed ]; then
            log "new settings"
            reload_openvpn || log "cannot reload OpenVPN"
        fi
    elif [ -f "$GATEKEY_DIR/ca.crt" ]; then
        fetch_crl
    fi
    send_kept
}

case ${1:-} in
    '') once ;;
    --loop)
        while :; do
            once || :
            sleep "$GATEKEY_HEARTBEAT_INTERVAL"
        done
        ;;
    *) fail "usage: heartbeat.sh [--loop]" ;;
esac
