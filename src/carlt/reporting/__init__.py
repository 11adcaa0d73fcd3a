"""Tables, plots and pages of the records that ``carlt.runs`` reads; imports no torch."""
