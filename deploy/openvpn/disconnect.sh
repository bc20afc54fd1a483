#!/bin/sh
# client-disconnect disconnect.sh: closes the firewall behind a client, and reports its end.
#
# A report that does not get through is kept, and sent by heartbeat.sh.
# shellcheck disable=SC2317 # functions that `locked` calls by their names
set -u
# shellcheck source=common.sh
. "${0%/*}/common.sh"
# shellcheck source=firewall.sh
. "$GATEKEY_SHARE/firewall.sh"

address=${ifconfig_pool_remote_ip:-}
is_ipv4 "$address" || exit 0
client=$GATEKEY_RUN_DIR/clients/$address

# OpenVPN runs this hook after a refused connect as well. That one left no file, and began nothing.
[ -f "$client" ] || exit 0
session_id=$(sed -n 2p "$client")

forget() {
    rm -f "$client" "$GATEKEY_RUN_DIR/rules/$address"
    firewall_clear "$address"
}
locked forget || log "cannot close the firewall for $address"

event_id=$(new_id)
occurred_at=$(now)
export session_id event_id occurred_at
report=$(jq -cn '
    { common_name: $ENV.common_name, client_ip: ($ENV.trusted_ip // $ENV.trusted_ip6),
      session_id: $ENV.session_id, event_id: $ENV.event_id, occurred_at: $ENV.occurred_at,
      duration_seconds: ($ENV.time_duration // "" | tonumber? // null),
      bytes_sent: ($ENV.bytes_sent // "" | tonumber? // null),
      bytes_received: ($ENV.bytes_received // "" | tonumber? // null) }
    | with_entries(select(.value != null and .value != ""))') || exit 0

# OpenVPN waits for this: not for long.
if ! printf '%s' "$report" | post_json 2 /gateway/disconnect >/dev/null; then
    printf '%s' "$report" >"$GATEKEY_RUN_DIR/tmp/$event_id" &&
        mv "$GATEKEY_RUN_DIR/tmp/$event_id" "$GATEKEY_RUN_DIR/spool/$(date +%s)-$event_id"
    log "${common_name:-}: the report of the disconnect is kept for later"
fi
exit 0
