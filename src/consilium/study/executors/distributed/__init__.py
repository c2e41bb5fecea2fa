"""Workers that share nothing but the folder: leases, prepared plans, Dask, Slurm."""
