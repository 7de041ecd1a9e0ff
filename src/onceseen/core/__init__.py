"""What every room of Onceseen shares: configuration, identifiers, records, schemas, failures and files.

Nothing here imports a stage, Beam's pipeline API or a model; stages import `core`, never the other way round.
"""
