# shellcheck shell=sh
# What all scripts share: settings, the control plane's API, files. Sourced, never run.
#
# OpenVPN starts hooks with an environment of its own making, in which text from the client stands
# (common_name, username, …). No such text is ever evaluated, put on a command line or pasted into
# JSON: jq reads it from the environment by itself.

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 077

GATEKEY_DIR=${GATEKEY_DIR:-/etc/gatekey}
GATEKEY_RUN_DIR=${GATEKEY_RUN_DIR:-/run/gatekey}
# Where these scripts are.
GATEKEY_SHARE=$(cd "${0%/*}" && pwd) || exit 1
export GATEKEY_SHARE

log() {
    printf 'gatekey %s: %s\n' "${0##*/}" "$*" >&2
}

fail() {
    log "$*"
    exit 1
}

# Reads agent.env: NAME=value lines, as systemd's EnvironmentFile. The environment wins.
load_settings() {
    [ -r "$GATEKEY_DIR/agent.env" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        name=${line%%=*}
        value=${line#*=}
        value=${value#\"}
        value=${value%\"}
        case $name in
            GATEKEY_URL | GATEKEY_CA_FILE | GATEKEY_TOKEN_FILE | GATEKEY_PUBLIC_IP | GATEKEY_DEV | \
                GATEKEY_FIREWALL | GATEKEY_RELOAD | GATEKEY_RULES_INTERVAL | GATEKEY_RULES_GRACE | \
                GATEKEY_HEARTBEAT_INTERVAL)
                eval "[ -n \"\${$name+set}\" ]" || export "$name=$value"
                ;;
        esac
    done <"$GATEKEY_DIR/agent.env"
}

load_settings
GATEKEY_URL=${GATEKEY_URL:-}
GATEKEY_TOKEN_FILE=${GATEKEY_TOKEN_FILE:-$GATEKEY_DIR/token}
GATEKEY_DEV=${GATEKEY_DEV:-tun0}
GATEKEY_FIREWALL=${GATEKEY_FIREWALL:-nft}
case $GATEKEY_DEV in
    '' | [!a-z]* | *[!A-Za-z0-9_]* | ????????????????*)
        fail "GATEKEY_DEV must be a device name such as tun0: letters, digits and _, at most 15"
        ;;
esac

# The gateway's token, from the environment or from a file that nobody else can read.
read_token() {
    token=${GATEKEY_TOKEN:-}
    if [ -z "$token" ]; then
        [ -r "$GATEKEY_TOKEN_FILE" ] || fail "cannot read the token file $GATEKEY_TOKEN_FILE"
        [ -z "$(find "$GATEKEY_TOKEN_FILE" -perm /077)" ] ||
            fail "$GATEKEY_TOKEN_FILE can be read by others: chmod 600 it"
        IFS= read -r token <"$GATEKEY_TOKEN_FILE" || [ -n "$token" ] ||
            fail "$GATEKEY_TOKEN_FILE is empty"
    fi
    case $token in
        *[!A-Za-z0-9._~+/=-]*) fail "the token holds characters that no token has" ;;
    esac
}

# call SECONDS PATH [curl options]: the answer's body, and its status on a last line of its own.
# Fails when there is no answer within SECONDS. The token goes through a pipe, not the command line.
call() {
    seconds=$1
    path=$2
    shift 2
    [ -n "$GATEKEY_URL" ] || fail "GATEKEY_URL is not set (in $GATEKEY_DIR/agent.env)"
    read_token
    if [ -n "${GATEKEY_CA_FILE:-}" ]; then
        set -- --cacert "$GATEKEY_CA_FILE" "$@"
    fi
    curl --silent --show-error --proto =http,https --connect-timeout 2 --max-time "$seconds" \
        --header @/dev/fd/3 --write-out '\n%{http_code}' "$@" \
        "${GATEKEY_URL%/}/api/v1$path" 3<<HEADERS
X-Gateway-Token: $token
HEADERS
}

# post SECONDS PATH: the same, with the JSON body from standard input.
post() {
    call "$1" "$2" --header 'Content-Type: application/json' --data-binary @-
}

# What `call` printed, apart: `body` without the status, `status` alone.
body() {
    printf '%s\n' "${1%
*}"
}

status() {
    printf '%s\n' "${1##*
}"
}

# post_json SECONDS PATH: the body, and only if the status is 200.
post_json() {
    answer=$(post "$1" "$2") || return 1
    if [ "$(status "$answer")" != 200 ]; then
        log "$2 was answered with status $(status "$answer")"
        return 1
    fi
    body "$answer"
}

now() {
    date -u +%Y-%m-%dT%H:%M:%SZ
}

new_id() {
    cat /proc/sys/kernel/random/uuid
}

# put FILE [MODE]: replaces FILE with standard input, whole or not at all. Returns 0 if that changed
# it, 1 if it did not, 2 if it could not be written.
put() {
    if ! cat >"$1.new" || ! chmod "${2:-600}" "$1.new"; then
        log "cannot write $1.new"
        return 2
    fi
    if cmp -s "$1.new" "$1"; then
        rm -f "$1.new"
        return 1
    fi
    mv -f "$1.new" "$1" || return 2
}

# Whether a revocation list is our authority's and counts now.
crl_is_good() {
    text=$(openssl crl -in "$1" -noout -lastupdate -nextupdate -CAfile "$GATEKEY_DIR/ca.crt" 2>&1)
    printf '%s\n' "$text" | grep -qx 'verify OK' || return 1
    from=$(date -d "$(printf '%s\n' "$text" | sed -n 's/^lastUpdate=//p')" +%s) || return 1
    until=$(date -d "$(printf '%s\n' "$text" | sed -n 's/^nextUpdate=//p')" +%s) || return 1
    [ "$from" -le "$(date +%s)" ] && [ "$(date +%s)" -lt "$until" ]
}

# Fetches the revocation list. One that is expired, empty or another authority's would lock every
# client out (or let the revoked in), so only a good one takes the old one's place.
fetch_crl() {
    crl=$GATEKEY_DIR/crl.pem
    why=
    if ! call 10 /pki/crl.pem --fail --output "$crl.fetched" >/dev/null; then
        why='cannot be fetched'
    elif ! crl_is_good "$crl.fetched"; then
        why="is not our authority's, or does not count now"
    else
        # Readable for OpenVPN also after it gave up its privileges; it is public anyway.
        put "$crl" 644 <"$crl.fetched" || [ $? = 1 ] || why='cannot be written'
    fi
    rm -f "$crl.fetched"
    [ -z "$why" ] || log "the new revocation list $why; the old one stays"
    [ -z "$why" ]
}

make_run_dirs() {
    mkdir -p "$GATEKEY_RUN_DIR/clients" "$GATEKEY_RUN_DIR/rules" "$GATEKEY_RUN_DIR/hosts" \
        "$GATEKEY_RUN_DIR/spool" "$GATEKEY_RUN_DIR/tmp" || fail "cannot make $GATEKEY_RUN_DIR"
}

# One at a time: hooks and the rules loop change the same firewall and the same files.
locked() {
    (
        flock -w 10 9 || fail "cannot get the lock $GATEKEY_RUN_DIR/lock"
        "$@"
    ) 9>"$GATEKEY_RUN_DIR/lock"
}

# Whether a text is an IPv4 address, and so fit for a file name and for nft.
is_ipv4() {
    case $1 in
        *[!0-9.]* | '' | *..* | .* | *.) return 1 ;;
        *.*.*.*.*) return 1 ;;
        *.*.*.*) return 0 ;;
        *) return 1 ;;
    esac
}
