"""A handler that a logging configuration gave to the package's logger, in place of our own, used to get no records."""

from .helpers import child


def test_only_handler():
    """A dictConfig that takes our NullHandler away and adds one of its own gets all records."""
    printed = child("""
        import logging
        import logging.config

        from resilient import retry


        class Kept(logging.Handler):
            def emit(self, record):
                print(record.event)


        logger = {"handlers": ["kept"], "level": "DEBUG"}
        config = {"version": 1, "handlers": {"kept": {"()": Kept}}, "loggers": {"resilient": logger}}
        logging.config.dictConfig(config)
        try:
            retry(max_attempts=2, base_delay=0).call(int, "x")
        except ValueError:
            pass
    """)
    assert printed.split() == ["retry.scheduled", "retry.exhausted"]
