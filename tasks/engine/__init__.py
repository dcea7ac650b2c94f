"""What the steps do, without Prefect and without SQL. `disks`, `blobs`, `guests` and `inspection` do not import each other."""
