# Runs a command in a container as a step: signals reach what the step started there. What it leaves running ends with the
# container, or with the step if that is stopped.
# $1 exec, or kill to end what is left of a step; $2 the container's id; $3 what marks the processes of the step; $4 the
# file with its variables; then the arguments of the client.
what=$1 container=$2 mark=$3 variables=$4
shift 4
# Fails if there is nothing to send a signal to.
send() {
    find /sys/fs/cgroup -path "*/$container/*" -name cgroup.procs -exec cat {} + 2>/dev/null | {
        found=1
        while read -r pid; do
            if grep -qzx -e "$mark" "/proc/$pid/environ" 2>/dev/null; then kill -s "$1" "$pid" 2>/dev/null && found=0; fi
        done
        return "$found"
    }
}
if [ "$what" = kill ]; then
    # What starts others while it is looked for is found the next time, but not for ever: killed ones may take time to go.
    for try in 1 2 3 4 5; do send KILL || break; done
    rm -f "$variables"
    exit 0
fi
# The client has a session of its own: it would leave at a signal, and with it the output of what the signal ends.
setsid docker "$@" &
client=$!
trap 'send INT' INT
trap 'send TERM' TERM
while :; do
    wait "$client"
    code=$?
    # A signal ends `wait` too.
    kill -0 "$client" 2>/dev/null || break
done
rm -f "$variables"
exit "$code"
