# Runs a container for the length of a step. $1 the file with its variables; then the arguments of the client, which hands
# signals on itself.
variables=$1
shift
trap : INT TERM
docker "$@"
code=$?
rm -f "$variables"
exit "$code"
