"""Run the measurements: `python -m koseki_ops.bench`."""

from koseki_ops.bench.platform import main

main()
