#!/bin/sh
# Managed by koseki (pyinfra, baseline/packages.py). Do not edit.
exit 101
