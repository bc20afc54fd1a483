#!/bin/sh
# Fetches this gateway's certificates and settings, and writes OpenVPN's files and server.conf.
#
# Says "changed" when something did. Does not start, stop or reload OpenVPN.
set -u
# shellcheck source=common.sh
. "${0%/*}/common.sh"

for path in "$GATEKEY_DIR" "$GATEKEY_RUN_DIR" "$GATEKEY_SHARE"; do
    case $path in
        /*) ;;
        *) fail "$path is not an absolute path" ;;
    esac
    case $path in
        *[!A-Za-z0-9/._-]*) fail "$path: only letters, digits and /._- can stand in server.conf" ;;
    esac
done
mkdir -p "$GATEKEY_DIR" || fail "cannot make $GATEKEY_DIR"
make_run_dirs

answer=$(printf '{}' | post_json 20 /gateway/provision) || fail "cannot provision"

# field NAME PATTERN: a value of the answer, if it looks as it must.
field() {
    printf '%s' "$answer" | jq -er --arg name "$1" --arg pattern "$2" '
        .[$name] | tostring | select(test($pattern))' || fail "the answer has no usable $1"
}

address='\A[0-9]{1,3}(\.[0-9]{1,3}){3}\z'
network=$(field vpn_network "$address") || exit 1
netmask=$(field vpn_netmask "$address") || exit 1
port=$(field vpn_port '\A[1-9][0-9]{0,4}\z') || exit 1
protocol=$(field vpn_protocol '\A(udp|tcp)\z') || exit 1
crypto=$(field crypto_profile '\A(modern|fips|compatible)\z') || exit 1
tls_auth=$(field tls_auth_enabled '\A(true|false)\z') || exit 1

changed=no
# What `put` returned.
note() {
    case $1 in
        0) changed=yes ;;
        1) ;;
        *) exit 1 ;;
    esac
}

# put_field FILE NAME PATTERN [MODE]
put_field() {
    value=$(field "$2" "$3") || exit 1
    printf '%s\n' "$value" | put "$GATEKEY_DIR/$1" "${4:-600}"
    note $?
}

put_field ca.crt ca_cert '\A-----BEGIN CERTIFICATE-----\n' 644
put_field server.crt server_cert '\A-----BEGIN CERTIFICATE-----\n' 644
put_field server.key server_key '\A-----BEGIN PRIVATE KEY-----\n'
if [ "$tls_auth" = true ]; then
    put_field ta.key tls_auth_key '-----BEGIN OpenVPN Static key V1-----\n'
    tls_auth_line="tls-auth $GATEKEY_DIR/ta.key 0"
else
    rm -f "$GATEKEY_DIR/ta.key"
    tls_auth_line='# tls-auth is off for this gateway'
fi
if [ "$protocol" = udp ]; then
    proto=udp
    exit_notify='explicit-exit-notify 1'
else
    proto=tcp-server
    exit_notify='# explicit-exit-notify is for UDP only'
fi

sed -e "s|@PORT@|$port|" -e "s|@PROTO@|$proto|" -e "s|@DEV@|$GATEKEY_DEV|" \
    -e "s|@NETWORK@|$network|" -e "s|@NETMASK@|$netmask|" -e "s|@CRYPTO@|$crypto|" \
    -e "s|@TLS_AUTH@|$tls_auth_line|" -e "s|@EXIT_NOTIFY@|$exit_notify|" \
    -e "s|@DIR@|$GATEKEY_DIR|g" -e "s|@RUN@|$GATEKEY_RUN_DIR|g" -e "s|@SHARE@|$GATEKEY_SHARE|g" \
    "$GATEKEY_SHARE/server.conf.template" >"$GATEKEY_RUN_DIR/tmp/server.conf" ||
    fail "cannot render server.conf"
put "$GATEKEY_DIR/server.conf" 644 <"$GATEKEY_RUN_DIR/tmp/server.conf"
note $?
rm -f "$GATEKEY_RUN_DIR/tmp/server.conf"

# Without a list OpenVPN lets nobody in, so there must be one before it starts.
fetch_crl || [ -s "$GATEKEY_DIR/crl.pem" ] || fail "there is no revocation list"

# Last: until everything is in place, the heartbeat must bring an old version, and be told to
# provision again.
version=$(printf '%s' "$answer" | jq -r '.config_version // $ENV.GATEKEY_CONFIG_VERSION // ""')
if [ -n "$version" ]; then
    printf '%s\n' "$version" | put "$GATEKEY_DIR/config_version" || [ $? = 1 ] || exit 1
fi

[ "$changed" = no ] || echo changed
