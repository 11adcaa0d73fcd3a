"""The configuration: composition, the check of every value, and the command line."""
