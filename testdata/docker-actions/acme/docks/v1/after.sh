#!/bin/sh -e
echo "after the steps, state $STATE_before $STATE_during"
