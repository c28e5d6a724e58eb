#!/bin/sh
# The first process of a container, to which signals mean nothing that it does not ask for.
echo ready to be stopped
while :; do sleep 1; done
