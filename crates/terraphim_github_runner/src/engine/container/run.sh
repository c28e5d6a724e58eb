# Runs the client of the engine, which hands signals on itself. $1 the file with the variables of a container, which goes when
# it has ended; then its arguments.
variables=$1
shift
trap : INT TERM
docker "$@"
code=$?
rm -f "$variables"
exit "$code"
