#!/bin/sh -e
echo "before the steps, with $INPUT_WHO"
echo "before=seen" >> "$GITHUB_STATE"
