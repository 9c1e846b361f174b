"""The distributed runtime: Kafka through Faust agents and tables. The only package that knows Faust and aiokafka.

Start at `runtime.KafkaRuntime` (what `app` wires) and `lane.Lane` (how a step becomes durable). Faust owns group membership, co-partitioning,
delivery and the recovery of tables from their changelogs; what is written goes through our own producer: only then do we know when it is safe.
"""
