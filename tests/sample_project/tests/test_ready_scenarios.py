"""Each policy does what it is there for."""

from shop import client

from resilient.testing import scenarios


def test_prices_survive_short_failures(proxy, recovery):
    """Attempts fail, and customers do not see it."""
    recovery.run(scenarios.retry_absorbs_transient_faults(client.price, load=100, baseline=0.3)).assert_ok()


def test_a_dead_stock_service_is_left_alone(proxy, recovery):
    """The breaker opens, and closes again."""
    recovery.run(scenarios.breaker_opens_and_recovers(client.reserve, load=100, baseline=0.3)).assert_ok()


def test_similar_books_are_shown_all_the_same(proxy, recovery):
    """What was known before the outage is shown during the outage."""
    recovery.run(scenarios.degrade_serves_stale(client.similar, load=100, baseline=0.3)).assert_ok()


def test_nobody_waits_for_freight(proxy, recovery):
    """A call that hangs is given up."""
    scenario = scenarios.timeout_bounds_tail(client.freight, latency=1.0, load=100, baseline=0.3, tolerance=0.3)
    recovery.run(scenario).assert_ok()


def test_slow_invoices_do_not_slow_down_prices(proxy, recovery):
    """Invoices hang, and prices are as quick as before."""
    scenario = scenarios.bulkhead_isolates(client.invoice, bystander=client.price, load=100, baseline=0.3)
    recovery.run(scenario).assert_ok()


def test_customers_do_not_bury_the_checkout(proxy, recovery):
    """Retries are few while nothing works."""
    scenario = scenarios.retry_storm_bounded(client.checkout, factor=1.5, load=100, baseline=0.3, outage=1.5)
    recovery.run(scenario).assert_ok()


def test_a_dead_service_is_restarted(service, proxy, recovery):
    """The plan brings it back."""
    from shop.service import orchestrator_for

    with orchestrator_for(service) as orchestrator:
        scenario = scenarios.orchestrator_recovers(
            client.freight,
            kill=service.kill,
            plan="restart-service",
            orchestrator=orchestrator,
            parameters={"address": service.address},
            baseline=0.2,
            outage=0.3,
            max_recovery_time=15,
        )
        recovery.run(scenario).assert_ok()
