#!/bin/sh
echo "post: $STATE_state"
