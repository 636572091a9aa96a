"""A story in four phases that shows the five decorators at work on a real HTTP service.

service.py    the service, run as a process of its own (stdlib only)
process.py    starts, kills and restarts that process
clients.py    the decorated functions: the part to copy from
traffic.py    threads and tasks that call them, and the tally of what they saw
narrator.py   turns the library's events into lines
story.py      the phases, the kill, the verdict
report.py     words, table and strip: pure functions
plot.py       the same as a picture; plot_lanes.py has its parts
monitor.py    the same for Prometheus and a browser, while it runs
"""
