"""The fault run: operations while store, database, Prefect server and worker fail in turn, and proof that nothing was lost.

`python -m benchmarks.faults --faults 100 --seed 7`; the table it writes is docs/faults.md.
"""
