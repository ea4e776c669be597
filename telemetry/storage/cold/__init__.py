"""The cold tier: Parquet files of a window of time each, the job that writes them, and what reads them."""
