"""Run folders: their files, the hash that identifies a run, and what reports read. No torch."""
