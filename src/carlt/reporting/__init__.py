"""Run records, tables and plots: reads and writes files, imports no torch."""
