"""What the metrics of degradations, their caches and managers say is what the script did."""

from resilient import CachedDegradation, DegradationManager, degrade
from resilient.testing import VirtualClock

from .helpers import Script, call

DOWN = ConnectionError("down")


def test_degrade(scrape, face):
    """Answers by who gave them, and of the calls without a real one the share that got another."""
    policy = degrade(fallback="instead", on=ConnectionError, name="d")
    rate = scrape.of("d", "recovery_degradation_success_rate")
    for answer in ("ok", DOWN, DOWN, DOWN, KeyError("not meant")):
        call(policy, face, Script(answer))

    assert rate == {("degradation_success_rate",): "nan"}
    assert scrape("recovery_degradation_events_total", name="d") == 3
    assert scrape("recovery_degradation_success_rate", name="d") == 0.75
    assert scrape.of("d", "recovery_calls_total") == {
        ("calls_total", "degrade", "success"): 1,
        ("calls_total", "degrade", "cached"): 0,
        ("calls_total", "degrade", "fallback"): 3,
        ("calls_total", "degrade", "failure"): 1,
    }


def shared_cache():
    """Two functions with one cache."""
    cache = CachedDegradation(cache_ttl=10, fallback_ttl=100)
    scripts = Script("ok", DOWN), Script("ok", DOWN)
    functions = [
        degrade(fallback=None, cache=cache, key=lambda place=place: place, name=f"d{place}")(script)
        for place, script in enumerate(scripts)
    ]
    return cache, functions


def test_a_cache_that_is_shared(scrape):
    """A cache that two degradations share is counted once, and its hits, misses and old answers are told apart."""
    cache, functions = shared_cache()
    with VirtualClock() as clock:
        for function in functions:
            function(), function(), function()  # a miss, and two hits
        clock.advance(20)
        for function in functions:
            function()  # a miss, and after the failure an old answer
        clock.advance(200)
        functions[0]()  # a miss, and after the failure none

    shown = {key[1:]: value for key, value in scrape.all().items() if key[0] == "recovery_cache_requests_total"}
    counted = cache.get_metrics()
    assert shown == {("d0", "hit"): 4, ("d0", "miss"): 5, ("d0", "stale"): 2, ("d0", "nothing"): 1}
    assert (counted.cache_hits, counted.cache_misses, counted.fallback_hits, counted.fallback_misses) == (4, 5, 2, 1)
    assert scrape("recovery_calls_total", kind="degrade", name="d0", result="cached") == 1


def of_manager(scrape, name):
    metrics = ("mode", "mode_changes_total", "degraded_services")
    return tuple(scrape(f"recovery_degradation_{one}", name=name) for one in metrics)


def test_manager(scrape):
    """Mode, changes and spared services are those of now; how long a mode lasted is counted when it is over."""
    with VirtualClock() as clock:
        manager = DegradationManager(name="modes")
        manager.health("one"), manager.health("two")
        seen = [of_manager(scrape, "modes")]
        for mode, seconds in (("partial", 10), ("full", 100), ("normal", 1000), ("full", 4)):
            manager.force_degradation(mode)
            clock.advance(seconds)
            seen.append(of_manager(scrape, "modes"))
        manager.force_degradation("normal")

    assert [(mode, changes) for mode, changes, _ in seen] == [(0, 0), (1, 1), (2, 2), (0, 3), (2, 4)]
    assert scrape.buckets("recovery_degradation_mode_duration_seconds", name="modes", state="partial") == {"15.0": 1}
    assert scrape.buckets("recovery_degradation_mode_duration_seconds", name="modes", state="full") == {
        "5.0": 1,
        "300.0": 1,
    }
    assert scrape("recovery_degradation_mode_duration_seconds_sum", name="modes", state="full") == 104


def test_spared_services(scrape):
    """A service that a manager spares is counted until it is healthy again."""
    manager = DegradationManager(name="sparing")
    guarded = degrade(fallback=None, manager=manager, service="far")(Script(DOWN))
    for _ in range(200):
        guarded()

    assert scrape("recovery_degradation_degraded_services", name="sparing") == 1
    assert scrape("recovery_degradation_mode", name="sparing") > 0


def test_two_managers_of_one_name(scrape):
    """They share their series: counters are added, and the worse mode is shown."""
    managers = [DegradationManager(name="twins") for _ in range(2)]
    managers[0].force_degradation("full")
    managers[1].force_degradation("partial")

    assert of_manager(scrape, "twins")[:2] == (2, 2)
