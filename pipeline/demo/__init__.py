"""`reflexarc demo`: a small real world (Envoy, local processes, load) on which the product is run and judged.

Owns: the world and the report. Nothing of the engine: it is started as `reflexarc run` with ordinary files from `rules/demo/`.
"""
