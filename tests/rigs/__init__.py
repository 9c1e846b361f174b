"""Real counterparts for tests: a Kafka broker, an Elasticsearch node, an Envoy proxy, run as child processes on loopback.

Owns: fetching them once into a cache (`cache`), finding Java (`java`), their life (`process`), one module per part, and the one place that decides
whether a missing part skips tests or fails them (`require`). Guarantee: nothing listens beyond loopback, every process started here ends with the
test session, however the session ends, and no process is ever signalled that was not started here.
"""
