"""In-memory time series: samples by label set, kept as long as a window needs them.

Owns: storage, late samples, limits, look-up by matchers. Guarantees: per series the times are strictly increasing, nothing here
raises because of what a feed contains (a reason comes back instead), and the same appends give the same reads.
"""

from pipeline.series.matchers import BadMatcherError, Matcher, MatchOp, Selector
from pipeline.series.ring import METADATA, Series
from pipeline.series.stale import STALE_NAN, is_stale
from pipeline.series.store import Appended, EvictReport, ExtendReport, SeriesLimits, SeriesStore
from pipeline.series.view import AnchoredView, SeriesView

__all__ = [
    "METADATA",
    "STALE_NAN",
    "AnchoredView",
    "Appended",
    "BadMatcherError",
    "EvictReport",
    "ExtendReport",
    "MatchOp",
    "Matcher",
    "Selector",
    "Series",
    "SeriesLimits",
    "SeriesStore",
    "SeriesView",
    "is_stale",
]
