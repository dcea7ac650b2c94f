"""What prefect.yaml cannot say: the embedded services, work pools, and the sample guest."""
