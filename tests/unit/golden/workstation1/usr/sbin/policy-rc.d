#!/bin/sh
# Managed by koseki (pyinfra, foundation/packages.py). Do not edit.
exit 101
