"""What the workers wrote, read back: the runs' Parquet files directly, and the cache of light tables. Never imports torch."""
