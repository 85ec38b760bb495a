"""The object store behind the port `Depot`: any S3, and its twin in memory."""
