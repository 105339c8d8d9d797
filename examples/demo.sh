#!/bin/sh
# The demo: apply examples/topologies/quickstart.yaml, send traffic, change it live, remove it.
# usage: examples/demo.sh PCN
set -eu
pcn=$1
quickstart=$(dirname "$0")/topologies/quickstart.yaml
pins=/sys/fs/bpf/pcn/quickstart
unset PCN_BPFFS

title() { printf '\n== %s\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}
fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}
# One echo request at least is answered; the first may still be looking for the way.
reaches() { run ip netns exec "$1" ping -q -c 3 -i 0.2 -W 2 "$2" || fail "$1 does not reach $2"; }
cannot_reach() {
    if run ip netns exec "$1" ping -q -c 3 -i 0.2 -W 1 "$2"; then fail "$1 still reaches $2"; fi
}

[ "$(id -u)" -eq 0 ] || fail "needs root: it loads programs and makes network namespaces"
[ ! -e "$pins" ] || fail "a topology \`quickstart\` is running here; remove it: $pcn destroy quickstart --yes"
for name in h1 h2 h3; do
    [ ! -e "/run/netns/$name" ] || fail "there is a network namespace $name; it would be in the way"
done

work=$(mktemp -d)
applied=
clean_up() {
    status=$?
    trap - EXIT
    if [ -n "$applied" ]; then "$pcn" destroy quickstart --yes >&2 || status=1; fi
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
interfaces() { ls /sys/class/net; }
interfaces >"$work/interfaces"

title "Two hosts on a switch"
run cat "$quickstart"
run "$pcn" plan -f "$quickstart"
applied=yes
run "$pcn" apply -f "$quickstart" --yes
reaches h1 10.0.0.2
reaches h1 fd00::2
title "What is applied needs no second look"
run "$pcn" plan -f "$quickstart"

title "A third host and a shorter aging time, while h1 talks to h2"
sed -e 's/bridge: {}/bridge: { agingTime: 60s }/' \
    -e 's|^  cubes:|    h3: { interfaces: { eth0: { addresses: [10.0.0.3/24, "fd00::3/64"] } } }\n&|' \
    "$quickstart" >"$work/three.yaml"
echo '    - [br1:p3, h3/eth0]' >>"$work/three.yaml"
run "$pcn" plan -f "$work/three.yaml"
ip netns exec h1 ping -q -c 150 -i 0.01 -W 2 10.0.0.2 >"$work/ping" &
ping=$!
run "$pcn" apply -f "$work/three.yaml" --yes
wait "$ping" || true
cat "$work/ping"
grep -q ' 0% packet loss' "$work/ping" || fail "packets were lost during the change"
reaches h3 10.0.0.1
reaches h3 fd00::1

title "A filter in front of h2, which is now listed"
sed -e 's/agingTime: 60s/agingTime: 60s, ports: { p2: { through: [shield] } }/' \
    -e 's|^  links:|    shield: { ddosMitigator: { sources: [10.0.0.2/32, "fd00::2/128"] } }\n&|' \
    "$work/three.yaml" >"$work/shield.yaml"
run "$pcn" plan -f "$work/shield.yaml"
run "$pcn" apply -f "$work/shield.yaml" --yes
cannot_reach h1 10.0.0.2
cannot_reach h1 fd00::2
reaches h1 10.0.0.3
run "$pcn" show quickstart

title "Gone without a trace"
run "$pcn" destroy quickstart --yes
applied=
[ ! -e "$pins" ] || fail "left behind: $pins"
for name in h1 h2 h3; do
    [ ! -e "/run/netns/$name" ] || fail "left behind: namespace $name"
done
interfaces | diff "$work/interfaces" - || fail "left behind: interfaces"
printf 'Nothing is left: no pins, no namespaces, no interfaces.\n'
