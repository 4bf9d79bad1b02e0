# Limits of containers below systemd: for a user by the command that `minisvc doctor` names, and as a service or in a scope, given away
# (`Delegate=`) or not.
must useradd -m -s /bin/bash -u 1000 learner
must loginctl enable-linger learner
eventually bus ls /run/user/1000
# The words as an ordinary user, in a session of his own.
learner() { su -l learner -c "$(printf '%q ' "$@")"; }
main() { pgrep -xo minisvc; }
nothing_left() {
    eventually '' pgrep -x minisvc
    eventually '' find /sys/fs/cgroup -name 'minisvc-*'
}

cat >/tmp/limits.yaml <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  containers:
  - {name: main, image: any/shell, command: [sh, -c, exec dd if=/dev/zero of=/dev/null bs=200M count=1], resources: {limits: {memory: 32Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: busy}
spec:
  containers:
  - {name: main, image: any/shell, command: [sh, -c, 'while :; do :; done'], resources: {limits: {cpu: 200m, memory: 64Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: many}
spec:
  containers:
  - {name: main, image: any/shell, command: [sh, -c, exec sleep 10000]}
YAML
chmod 644 /tmp/limits.yaml

# That limits are kept in the lab of $who, in groups below $1.
limits_hold() {
    local group before used
    eventually OOMKilled $who minisvc get pod greedy -o jsonpath='{.status.containerStatuses[0].lastState.terminated.reason}'
    eventually Running $who minisvc get pod busy -o jsonpath='{.status.phase}'
    group=$(find /sys/fs/cgroup -path '*/minisvc-*/main.*' -name cpu.max -exec grep -l '^20000 100000' {} +)
    [[ $group == $1/minisvc-default.* ]] || fail "the group is $group, not below $1"
    before=$(awk '/^usage_usec/ {print $2}' "${group%max}stat")
    sleep 5
    used=$(($(awk '/^usage_usec/ {print $2}' "${group%max}stat") - before))
    [ $used -gt 300000 ] && [ $used -lt 1500000 ] || fail "$used microseconds of 5 s, where a fifth is allowed"
    says 0 grep -c LimitsNotKept <($who minisvc get events)
}

who=learner
user=/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service
scope='systemd-run --user --scope -p Delegate=yes minisvc up'
step 'a user, with the words of doctor'
says "$scope" learner minisvc doctor
says 0 grep -c 'Limits of' <(learner ${scope% up} doctor)
learner $scope -f /tmp/limits.yaml >/dev/null 2>&1 &
eventually Ready learner minisvc get nodes
limits_hold "$user/app.slice/run-*.scope"
step 'the user kills it'
kill -9 "$(main)"
nothing_left

step 'a user, in the background, with 300 processes at most'
must learner systemd-run --user --scope -p Delegate=yes -p TasksMax=300 minisvc up --detach -f /tmp/limits.yaml
limits_hold "$user/app.slice/run-*.scope"
says 'annot fork' learner minisvc exec many -- sh -c 'for i in $(seq 400); do sleep 100 >/dev/null 2>&1 & done'
must learner minisvc down
nothing_left

# A unit that was not given away is ended by systemd when a process of it is killed for want of memory, so the groups are elsewhere.
top=/sys/fs/cgroup
while read -r who kind delegate place; do
    [ "$who" = root ] && who= manager= || manager=--user
    [ "$kind" = scope ] && unit=--scope || unit=
    step "${who:-root}, a $kind, Delegate=$delegate"
    $who systemd-run $manager $unit --quiet --collect --unit=lab -p Delegate=$delegate minisvc up -f /tmp/limits.yaml >/dev/null 2>&1 &
    eventually Ready $who minisvc get nodes
    limits_hold "$place"
    # systemd does not take back what it did not give.
    must $who systemctl $manager daemon-reload
    must $who systemctl $manager set-property --runtime lab.$kind TasksMax=4000
    limits_hold "$place"
    must $who minisvc down
    nothing_left
    eventually inactive $who systemctl $manager is-active lab.$kind
done <<UNITS
root service no $top
root service yes $top/system.slice/lab.service
root scope no $top
root scope yes $top/system.slice/lab.scope
learner service no $user
learner service yes $user/app.slice/lab.service
UNITS

step 'root, beside other processes'
who=
must minisvc up --detach -f /tmp/limits.yaml
limits_hold $top
must minisvc down
nothing_left
