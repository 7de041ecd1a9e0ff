"""`onceseen scan`: a query set held against a finished run."""
