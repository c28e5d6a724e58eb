#!/bin/sh -e
echo "during the step, for $1, state $STATE_before"
echo "said=hello $1" >> "$GITHUB_OUTPUT"
echo "during=too" >> "$GITHUB_STATE"
