# `--network host` with systemd-resolved: this machine finds the lab's names while the lab runs, and is as before afterwards.
all() {
    sha256sum /etc/hosts /etc/resolv.conf /etc/nsswitch.conf
    readlink /etc/resolv.conf
    for what in dns domain default-route; do resolvectl $what; done
    ip -o address
    ip route
}
as_before() {
    local now
    now=$(all)
    [ "$before" = "$now" ] || fail "this has changed: $(diff <(echo "$before") <(echo "$now"))"
}
name=hello.default.svc.cluster.local

# A link with settings of its own, which must stay.
must ip link add office type dummy
must ip address add 192.0.2.1/24 dev office
must ip link set office up
must resolvectl dns office 192.0.2.1
must resolvectl domain office example.net
before=$(all)
quickly() { timeout 2 "$@" || echo "ended with $?"; }

for round in 'with polkit' 'without polkit, DNS over TLS demanded'; do
    step "$round: a lab"
    must minisvc up --network host --detach --wait -f /examples/hello
    step "$round: its names"
    vip=$(minisvc get svc hello -o jsonpath='{.spec.clusterIP}')
    says 10.96.0.10 resolvectl dns minisvc0
    says '~cluster.local ~96.10.in-addr.arpa ~244.10.in-addr.arpa' resolvectl domain minisvc0
    says ': no' resolvectl default-route minisvc0
    says "$vip" resolvectl query $name
    says "$name" resolvectl query "$vip"
    says "$vip" getent hosts $name
    says "$vip" minisvc __dig udp 127.0.0.53 A $name.
    says 'ask GET /' curl -sS --max-time 20 http://$name/
    # A pod's question about another name comes to this machine's resolver, and does not go round in circles.
    says 192.0.2.7 minisvc exec -- getent hosts printer.example
    says NXDomain minisvc __dig udp 127.0.0.53 PTR 9.9.96.10.in-addr.arpa.
    says example.net resolvectl domain office
    # Nobody waits for a link where nobody answers.
    says 'ended with 2' quickly getent hosts hello
    must systemctl restart systemd-resolved
    eventually "$vip" resolvectl query $name
    if [ "$round" = 'with polkit' ]; then
        must minisvc down
        as_before
        must systemctl mask --runtime --now polkit
        # Nobody but the lab may be asked without it.
        mkdir -p /run/systemd/resolved.conf.d
        printf '[Resolve]\nDNSOverTLS=yes\n' >/run/systemd/resolved.conf.d/tls.conf
        must systemctl restart systemd-resolved
        before=$(all)
    else
        step 'kill -9'
        kill -9 "$(pgrep -xo minisvc)"
        eventually '' pgrep -x minisvc
        as_before
    fi
done
must ip link del office
must systemctl unmask --runtime polkit
rm -r /run/systemd/resolved.conf.d
must systemctl restart systemd-resolved
