# Turns the control plane's rules into the ends of nft rules, two for each: there and back.
#
# Whatever does not look exactly as it should is left out: less is reachable then, never more.
# (\A and \z: a line break at the end, which $ passes over, would begin another nft rule.)

def ipv4: test("\\A[0-9]{1,3}(\\.[0-9]{1,3}){3}(/[0-9]{1,2})?\\z");

def destinations($hosts):
    if .type == "hostname" then $hosts[.value | ascii_downcase] // []
    elif .type == "ip" or .type == "cidr" then [.value]
    else [] end
    | map(select(type == "string" and ipv4));

def there_and_back($there; $back):
    "ip daddr \(.)\($there) accept",
    "ip saddr \(.)\($back) ct direction reply accept";

# Input: the answer of /gateway/client-rules, or of /gateway/connect. $hosts: {"name": ["address"]}.
def nft_rules($hosts): [
  (.allowed // .firewall_rules // [])[]
  | select((.action // "allow") == "allow")
  | { type: (.type // .rule_type // ""), value: (.value // ""),
      port: (.port // .port_range // ""), protocol: (.protocol // "") }
  | select(all(.[]; type == "string"))
  | select(.port | test("\\A([0-9]{1,5}(-[0-9]{1,5})?)?\\z"))
  | . as $rule
  | destinations($hosts)[]
  | if $rule.protocol == "tcp" or $rule.protocol == "udp" then
        if $rule.port == "" then
            there_and_back(" meta l4proto \($rule.protocol)"; " meta l4proto \($rule.protocol)")
        else
            there_and_back(" \($rule.protocol) dport \($rule.port)";
                           " \($rule.protocol) sport \($rule.port)")
        end
    elif $rule.protocol == "icmp" then
        there_and_back(" meta l4proto icmp"; " meta l4proto icmp")
    elif $rule.protocol == "" and $rule.port != "" then
        there_and_back(" meta l4proto { tcp, udp } th dport \($rule.port)";
                       " meta l4proto { tcp, udp } th sport \($rule.port)")
    elif $rule.protocol == "" then
        there_and_back(""; "")
    else empty end
] | unique[];
