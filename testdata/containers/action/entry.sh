#!/bin/sh -e
echo "args: $*; $OF_ACTION; in $PWD; home $HOME; INPUT $INPUT_WHO"
test -f image.sh && test -f "$GITHUB_EVENT_PATH" && test "$GITHUB_WORKSPACE" = /github/workspace
echo "said=hi $2" >> "$GITHUB_OUTPUT"
echo "state=kept" >> "$GITHUB_STATE"
echo "FROM_ACTION=set by the action" >> "$GITHUB_ENV"
