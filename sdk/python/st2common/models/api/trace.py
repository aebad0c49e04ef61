"""What names the trace that an event belongs to."""

__all__ = ["TraceContext"]


class TraceContext:
    """Either the id of a trace, or its tag."""

    def __init__(self, id_=None, trace_tag=None, **_other):
        self.id_ = id_
        self.trace_tag = trace_tag

    def __repr__(self):
        return "<TraceContext id_=%s trace_tag=%s>" % (self.id_, self.trace_tag)
