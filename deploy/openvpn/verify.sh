#!/bin/sh
# auth-user-pass-verify verify.sh via-file: asks the control plane whether this client may come in.
#
# No answer is a no. Under OpenVPN 2.6 a new client's question is asked in the background: a hook
# that waits makes every client of the server wait. At a renegotiation it is not: until the verdict
# is there OpenVPN drops what the client sends, and it looks for one only every few seconds.
set -u
# shellcheck source=common.sh
. "${0%/*}/common.sh"

# OpenVPN deletes the file with the user name and password when this script returns.
[ $# -ge 1 ] || fail "needs the file with user name and password: use via-file"
request=$(jq -cn --rawfile file "$1" '
    ($file | split("\n")) as $lines
    | { common_name: $ENV.common_name, username: $lines[0], password: $lines[1],
        serial_number: $ENV.tls_serial_hex_0,
        client_ip: ($ENV.untrusted_ip // $ENV.untrusted_ip6) }
    | with_entries(select(.value != null and .value != ""))') || exit 1

# What the person reads. Printable ASCII; TEMP makes clients of 2.6 try again.
refuse() {
    log "${common_name:-}: $1"
    if [ -n "${auth_failed_reason_file:-}" ]; then
        printf '%s' "$1" >"$auth_failed_reason_file"
    fi
    return 1
}

# decide SECONDS
decide() {
    answer=$(printf '%s' "$request" | post "$1" /gateway/verify) ||
        { refuse 'TEMP[backoff 10,advance no]:The access service cannot be reached'; return; }
    verdict=$(body "$answer" | jq -r '
        if .allowed == true then "yes"
        elif .allowed == false then
            .reason // "Access denied" | tostring | gsub("[^ -~]"; " ") | .[0:200]
        else error("no verdict") end') ||
        { refuse 'TEMP[backoff 10,advance no]:The access service is out of order'; return; }
    [ "$verdict" = yes ] || refuse "$verdict"
}

# A client that is connected already has an address.
if [ -z "${auth_control_file:-}" ] || [ -n "${ifconfig_pool_remote_ip:-}" ]; then
    decide 3
    exit
fi
{
    if decide 8; then verdict=1; else verdict=0; fi
    printf '%s' "$verdict" >"$auth_control_file"
} &
exit 2
