"""A deterministic simulator: the product's own detector, remediators, governor and executor, on virtual time, against a modelled service.

`python -m tests.simulator` runs many seeded scenarios, each once in observe and once in enforce with the same arrivals, and prints who did better.
Start at `run.run`; `scenario.py` says what can go wrong, `world.py` what the service is, `checks.py` what must hold.
"""
