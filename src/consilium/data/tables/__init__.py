"""Files of rows: CSV and Parquet as frames, their headers, gaps and which rows are used."""
