#!/bin/sh
echo "a script of the action, executable as it was committed"
