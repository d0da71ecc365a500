# Managed by koseki (pyinfra, baseline/system.py). Do not edit.
# An idle shell ends; nobody can switch that off.
TMOUT=600
readonly TMOUT
export TMOUT
