"""Expressions as one shared graph of columnar nodes: what many rules have in common is computed once, and for all series at a time.

Guarantee: a node gives what the evaluator's operator gives, to the last bit and in the same order, annotations included. Everything that is kept
between evaluations is either a hint that is checked before use or is bound to the numbers of the samples it was computed from.
"""

from pipeline.promql.incremental.graph import Cost, Graph, Program

__all__ = ["Cost", "Graph", "Program"]
