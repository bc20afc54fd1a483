# shellcheck shell=sh
# The firewall around the tunnel, with nft. Sourced, never run.
#
#   forward  from the tunnel: the client's own chain, else drop. To the tunnel: replies that the
#            client's own chain knows, else drop.
#   input    from the tunnel to this machine itself: the same.
#
# A client's chain is kept by its VPN address. Replies are matched too (not just "established"), so
# that taking a rule away cuts what is running.

table() {
    printf 'gatekey_%s\n' "$GATEKEY_DEV"
}

firewall_on() {
    [ "$GATEKEY_FIREWALL" = nft ]
}

# Puts the default in place, if it is not: nothing gets through.
firewall_base() {
    firewall_on || return 0
    nft list chain inet "$(table)" input >/dev/null 2>&1 && return 0
    nft -f - <<RULES
table inet $(table) {
    map clients {
        type ipv4_addr : verdict
    }
    chain forward {
        type filter hook forward priority filter; policy accept
        iifname "$GATEKEY_DEV" ip saddr vmap @clients
        oifname "$GATEKEY_DEV" ct direction reply ct state established ip daddr vmap @clients
        oifname "$GATEKEY_DEV" ct state related icmp type { destination-unreachable, time-exceeded } accept
        iifname "$GATEKEY_DEV" counter drop
        oifname "$GATEKEY_DEV" counter drop
    }
    chain input {
        type filter hook input priority filter; policy accept
        iifname "$GATEKEY_DEV" ip saddr vmap @clients
        iifname "$GATEKEY_DEV" counter drop
    }
}
RULES
}

# firewall_set ADDRESS: the client at ADDRESS may reach what standard input says, and nothing else.
# Standard input is rules.jq's output: the ends of nft rules.
firewall_set() {
    firewall_on || return 0
    firewall_base || return 1
    {
        printf 'add chain inet %s client_%s\n' "$(table)" "$1"
        printf 'flush chain inet %s client_%s\n' "$(table)" "$1"
        while IFS= read -r rule; do
            printf 'add rule inet %s client_%s %s\n' "$(table)" "$1" "$rule"
        done
        printf 'add element inet %s clients { %s : jump client_%s }\n' "$(table)" "$1" "$1"
    } | nft -f -
}

# firewall_clear ADDRESS: the client at ADDRESS may reach nothing. Also if it could not before.
firewall_clear() {
    firewall_on || return 0
    firewall_base || return 1
    nft -f - <<RULES
add chain inet $(table) client_$1
add element inet $(table) clients { $1 : jump client_$1 }
delete element inet $(table) clients { $1 }
flush chain inet $(table) client_$1
delete chain inet $(table) client_$1
RULES
}
