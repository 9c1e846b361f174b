"""The executor: applies granted actions through connectors, once each, and reports exactly one outcome per action."""
