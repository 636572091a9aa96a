"""What a guarded call costs, beside a no-op wrapt decorator and other libraries: `python -m tests.benchmarks`."""
