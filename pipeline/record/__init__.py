"""The record store: what people and audits query later, kept in SQLite (embedded) or Elasticsearch, behind `pipeline.ports.record.RecordStore`.

Owns: document kinds (`kinds`), the check that every document passes (`documents`), the two stores (`sqlite`, `elastic`) and the shape of what goes
into Elasticsearch (`mapping`, `bulk`). Guarantee: a document that was handed to `write` is stored once under (kind, id), or comes back with the
reason why it cannot be; an absent server only delays it.
"""
