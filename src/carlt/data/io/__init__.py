"""Reading, decoding, downloading and checking files."""
