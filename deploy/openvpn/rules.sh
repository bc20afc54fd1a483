#!/bin/sh
# rules.sh [--once]: keeps the firewall to what the control plane lets each connected client reach.
#
# Asks for each client again every few seconds, and changes nft when the answer changed. Must run
# before OpenVPN starts: its first act is to put the default in place, which is drop.
#
# Who is connected, connect.sh and disconnect.sh say: clients/ADDRESS, with the common name on line
# 1 and the session on line 2. What a client's chain holds, rules/ADDRESS says, and its age is the
# age of the answer.
# shellcheck disable=SC2317 # functions that `locked` calls by their names
set -u
# shellcheck source=common.sh
. "${0%/*}/common.sh"
# shellcheck source=firewall.sh
. "$GATEKEY_SHARE/firewall.sh"
make_run_dirs
# What is taken away must be gone within ten seconds, with the time that asking takes.
GATEKEY_RULES_INTERVAL=${GATEKEY_RULES_INTERVAL:-8}
# How long the last answer counts when the control plane is silent. Then everything is shut.
GATEKEY_RULES_GRACE=${GATEKEY_RULES_GRACE:-60}
tab=$(printf '\t')

firewall_on || fail "GATEKEY_FIREWALL is $GATEKEY_FIREWALL: there is nothing to do"
[ -n "$GATEKEY_URL" ] || fail "GATEKEY_URL is not set (in $GATEKEY_DIR/agent.env)"
locked firewall_base || fail "cannot set up nft"
[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] ||
    log "net.ipv4.ip_forward is off: clients will reach this machine only"

# Writes $pass/clients: address, name and session of each client.
list_clients() {
    for client in "$GATEKEY_RUN_DIR/clients"/*; do
        address=${client##*/}
        is_ipv4 "$address" || continue
        { IFS= read -r name && IFS= read -r session; } 2>/dev/null <"$client" || continue
        printf '%s\t%s\t%s\n' "$address" "$name" "$session"
    done >"$pass/clients"
}

# Asks for all of them at once; writes $pass/ADDRESS.json, and $pass/answered with their addresses.
# One curl and one jq for all, or a hundred clients would take longer than the interval.
ask() {
    read_token
    token=$token jq -Rr --arg url "${GATEKEY_URL%/}/api/v1/gateway/client-rules" \
        --arg pass "$pass" --arg ca "${GATEKEY_CA_FILE:-}" '
        split("\t") as [$address, $name]
        | { user_id: $name, user_email: $name, user_groups: null, client_ip: $address }
        | (if input_line_number > 1 then "next" else empty end),
          "url = \($url | @json)", "proto = \"=http,https\"",
          "silent", "show-error", "connect-timeout = 2", "max-time = 5",
          "header = \("X-Gateway-Token: " + $ENV.token | @json)",
          "header = \"Content-Type: application/json\"",
          (if $ca != "" then "cacert = \($ca | @json)" else empty end),
          "data-binary = \(tojson | @json)",
          "output = \($pass + "/" + $address + ".json" | @json)",
          "write-out = \"%{http_code} \($address)\\n\""' "$pass/clients" |
        timeout 8 curl --no-progress-meter --parallel --parallel-max 16 --config - \
            >"$pass/statuses"
    sed -n 's/^200 //p' "$pass/statuses" >"$pass/answered"
}

# The addresses behind a name, one a line. A name that cannot be resolved just now keeps its last.
resolve() {
    known=$GATEKEY_RUN_DIR/hosts/$1
    found=$(timeout 2 getent ahostsv4 "$1" | cut -d ' ' -f 1 | sort -u)
    if [ -n "$found" ]; then
        printf '%s\n' "$found" | put "$known" || :
    fi
    [ ! -f "$known" ] || cat "$known"
}

# Turns the answers into $pass/ADDRESS.rules.
translate() {
    files=$(sed "s|.*|$pass/&.json|" "$pass/answered")
    [ -n "$files" ] || return 0
    # Paths without spaces: of the run directory and of addresses.
    # shellcheck disable=SC2086
    jq -r '.allowed // [] | .[] | select(.type == "hostname") | .value | strings | ascii_downcase
        | select(test("\\A[a-z0-9][a-z0-9.-]{0,252}\\z"))' $files | sort -u |
        while IFS= read -r name; do
            resolve "$name" | jq -Rnc --arg name "$name" '{($name): [inputs]}'
        done | jq -sc 'add // {}' >"$pass/hosts"
    # shellcheck disable=SC2086
    jq -L "$GATEKEY_SHARE" -nr --slurpfile hosts "$pass/hosts" '
        include "rules";
        inputs | (input_filename | sub("^.*/"; "") | rtrimstr(".json")) as $address
        | [nft_rules($hosts[0])] | "\($address)\t", "\($address)\t\(.[])"' $files |
        awk -F '\t' -v pass="$pass" '
            { file = pass "/" $1 ".rules" }
            $2 == "" { printf "" >file; close(file); next }
            { print $2 >>file; close(file) }'
}

# Whether the address is still the same client's: someone else may have got it meanwhile.
still_there() {
    { IFS= read -r now_name && IFS= read -r now_session; } 2>/dev/null \
        <"$GATEKEY_RUN_DIR/clients/$1" || return 1
    [ "$now_name$tab$now_session" = "$2$tab$3" ]
}

# apply ADDRESS NAME SESSION
apply() {
    still_there "$@" || return 0
    firewall_set "$1" <"$pass/$1.rules" && mv -f "$pass/$1.rules" "$GATEKEY_RUN_DIR/rules/$1"
}

# The old answer holds for a while; then the client is shut off.
without_answer() {
    still_there "$@" || return 0
    rules=$GATEKEY_RUN_DIR/rules/$1
    [ -f "$rules" ] || return 0
    [ -z "$(find "$rules" -newermt "-$GATEKEY_RULES_GRACE seconds")" ] || return 0
    log "$1: no answer for $GATEKEY_RULES_GRACE s, shut off"
    : >"$pass/none"
    firewall_set "$1" <"$pass/none" && rm -f "$rules"
}

# A server that was killed ran no disconnect hook. Forgets clients that OpenVPN no longer lists.
forget_vanished() {
    listed=$GATEKEY_RUN_DIR/status.log
    [ -n "$(find "$listed" -mmin -1 2>/dev/null)" ] || return 0
    # A minute: a client that is just coming in is not in the list yet.
    find "$GATEKEY_RUN_DIR/clients" -type f -mmin +1 | while IFS= read -r client; do
        address=${client##*/}
        if ! cut -f 1,4 "$listed" | grep -qxF "CLIENT_LIST$tab$address"; then
            rm -f "$client" "$GATEKEY_RUN_DIR/rules/$address"
            firewall_clear "$address"
        fi
    done
}

once() {
    pass=$(mktemp -d "$GATEKEY_RUN_DIR/tmp/rules.XXXXXX") || return 1
    locked forget_vanished
    list_clients
    if [ -s "$pass/clients" ]; then
        ask
        translate || log "an answer is not what it should be"
        # A tab at the end is lost, and with it nothing: a session may be empty, a name is not.
        while IFS=$tab read -r address name session; do
            if [ ! -f "$pass/$address.rules" ]; then
                locked without_answer "$address" "$name" "$session"
            elif cmp -s "$pass/$address.rules" "$GATEKEY_RUN_DIR/rules/$address"; then
                touch -c "$GATEKEY_RUN_DIR/rules/$address"
            else
                locked apply "$address" "$name" "$session" || log "$address: nft refused"
            fi
        done <"$pass/clients"
    fi
    rm -rf "$pass"
}

case ${1:-} in
    '')
        while :; do
            began=$(date +%s)
            once
            left=$((began + GATEKEY_RULES_INTERVAL - $(date +%s)))
            [ "$left" -le 0 ] || sleep "$left"
        done
        ;;
    --once) once ;;
    *) fail "usage: rules.sh [--once]" ;;
esac
