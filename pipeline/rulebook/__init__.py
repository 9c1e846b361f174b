"""What users write, read strictly and compiled: Prometheus rule files, Sigma rules, policies, services, grants."""
