#!/bin/sh
# client-connect connect.sh: reports a client, and applies what the control plane says to it.
#
# No answer is a no. Under OpenVPN 2.6 the question is asked in the background: a hook that waits
# makes every client of the server wait.
# shellcheck disable=SC2317 # functions that `locked` calls by their names
set -u
# shellcheck source=common.sh
. "${0%/*}/common.sh"
# shellcheck source=firewall.sh
. "$GATEKEY_SHARE/firewall.sh"

[ $# -ge 1 ] || fail "needs the file for the client's configuration"
config=$1
address=${ifconfig_pool_remote_ip:-}
is_ipv4 "$address" || fail "the client has no VPN address"
make_run_dirs

# Whoever had this address before is gone, and so is what they could reach.
forget() {
    rm -f "$GATEKEY_RUN_DIR/clients/$address" "$GATEKEY_RUN_DIR/rules/$address"
    firewall_clear "$address"
}

# The client's file first: if the rest fails, disconnect.sh runs, finds it and reports the end. In it,
# one a line: common name, session, address, time.
admit() {
    forget &&
        printf '%s' "$answer" | jq -r '
            $ENV.common_name, .session_id // "", $ENV.trusted_ip // $ENV.trusted_ip6 // "",
            $ENV.occurred_at' >"$GATEKEY_RUN_DIR/tmp/client.$$" &&
        mv -f "$GATEKEY_RUN_DIR/tmp/client.$$" "$GATEKEY_RUN_DIR/clients/$address" &&
        printf '%s' "$answer" | jq -L "$GATEKEY_SHARE" -r 'include "rules"; nft_rules({})' \
            >"$GATEKEY_RUN_DIR/tmp/rules.$$" &&
        firewall_set "$address" <"$GATEKEY_RUN_DIR/tmp/rules.$$" &&
        mv -f "$GATEKEY_RUN_DIR/tmp/rules.$$" "$GATEKEY_RUN_DIR/rules/$address"
}

decide() {
    locked forget || return 1
    event_id=$(new_id)
    occurred_at=$(now)
    export event_id occurred_at
    answer=$(jq -cn '
        { common_name: $ENV.common_name, serial_number: $ENV.tls_serial_hex_0,
          client_ip: ($ENV.trusted_ip // $ENV.trusted_ip6),
          vpn_ipv4: $ENV.ifconfig_pool_remote_ip, vpn_ipv6: $ENV.ifconfig_pool_remote_ip6,
          event_id: $ENV.event_id, occurred_at: $ENV.occurred_at }
        | with_entries(select(.value != null and .value != ""))' |
        post 8 /gateway/connect) || return 1
    answer=$(body "$answer")
    if [ "$(printf '%s' "$answer" | jq -r '.allow == true')" != true ]; then
        log "${common_name:-}: $(printf '%s' "$answer" |
            jq -r '.message // "refused" | tostring | gsub("[^ -~]"; " ")')"
        return 1
    fi
    # OpenVPN passes over a line that it cannot read; two lines in one must not get there.
    printf '%s' "$answer" | jq -r '
        .client_config // [] | .[] | select(type == "string" and (test("[\\r\\n]") | not))' \
        >"$config" && locked admit
}

if [ -z "${client_connect_deferred_file:-}" ]; then
    decide
    exit
fi
printf 2 >"$client_connect_deferred_file"
{
    if decide; then verdict=1; else verdict=0; fi
    printf '%s' "$verdict" >"$client_connect_deferred_file"
} &
exit 0
