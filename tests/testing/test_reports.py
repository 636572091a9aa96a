"""Reports say all that was measured, in four formats that others can read, whatever the names in them."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import jsonschema
import pytest
from junitparser import Error, Failure, JUnitXml, Properties
from markdown_it import MarkdownIt

from resilient.errors import ConfigurationError
from resilient.testing.recovery.report import TestReport
from resilient.testing.recovery.result import FaultRecord, Operation, TestStatus, TimelineEvent
from resilient.testing.reports import as_json, junit, markdown, page
from resilient.testing.reports.dots import MOST, Scale, chosen, steps, stretches
from resilient.testing.reports.texts import percent, seconds

from . import report_samples as samples


class Page(HTMLParser):
    """A page's elements, links and texts; whether every element is closed in its turn."""

    empty = frozenset({"meta"})

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.empty:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return "\n".join(self.texts)

    def all(self, tag, **wanted):
        found = [attrs for name, attrs in self.elements if name == tag]
        return [one for one in found if all(value in (one.get(key) or "").split() for key, value in wanted.items())]


def shown(*results):
    return Page(page.write(TestReport(results)))


# JSON


def test_json_report_comes_back_as_it_was_written():
    """Reading a report and writing it again gives the same text, for every status and with hostile names."""
    for report in (samples.mixed(), samples.nasty(), TestReport([])):
        text = report.to_json()
        again = TestReport.from_json(text)
        assert again.to_json() == text
        assert again.results == TestReport.from_json(text).results
        assert [one.status for one in again.results] == [one.status for one in report.results]


def test_json_report_keeps_every_measured_number():
    """All fields but the operations' values and errors are equal after reading."""
    before, after = samples.result(), as_json.read(TestReport([samples.result()]).to_json())[0]
    for name in before.__slots__:
        if name != "operations":
            assert getattr(after, name) == getattr(before, name), name
    for old, new in zip(before.operations, after.operations, strict=True):
        assert (new.number, new.started, new.ended, new.phase, new.ok) == (
            *(old.number, old.started, old.ended, old.phase),
            old.ok,
        )


def test_json_report_holds_no_value_of_an_operation():
    """Of what operations returned only the type is written, of errors type and message."""
    text = TestReport([samples.result()]).to_json()
    assert "hunter2" not in text
    operation = as_json.read(text)[0].operations
    assert operation[0].value == "dict"
    assert str(operation[20].error) == "ConnectionError: refused"


def test_json_report_fits_its_schema():
    """The exported schema accepts what is written, and refuses what is not."""
    schema = as_json.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    for report in (samples.mixed(), samples.nasty(), TestReport([])):
        check.validate(json.loads(report.to_json()))
    content = json.loads(samples.mixed().to_json())
    content["results"][0]["operations"]["rows"][0][1] = "soon"
    assert not check.is_valid(content)


def test_json_report_has_no_number_that_json_lacks():
    """Not-a-number and infinity are written as null, and read as not-a-number."""
    event = TimelineEvent(0.5, "x", "y", "z", {"delay": math.inf, "deep": [math.nan, {"a": object()}]})
    given = samples.result(
        metrics={"a": math.nan, "b": -math.inf, "c": 1}, events=(event,), average_response_time=math.nan
    )
    text = TestReport([given]).to_json()
    json.loads(text, parse_constant=pytest.fail)
    read = as_json.read(text)[0]
    assert math.isnan(read.metrics["a"])
    assert read.metrics["c"] == 1
    assert read.events[0].data == {"delay": None, "deep": [None, {"a": "object"}]}


def test_json_report_survives_errors_that_cannot_be_shown():
    """An error whose message fails, or is huge, is noted all the same, and shortened."""

    class Broken(Exception):
        def __str__(self):
            raise RuntimeError

    rows = (
        Operation(0, 0.0, 1.0, "fault", None, Broken()),
        Operation(1, 0.0, 1.0, "fault", None, ValueError("x" * 10_000)),
    )
    text = TestReport([samples.result(operations=rows)]).to_json()
    first, second = as_json.read(text)[0].operations
    assert str(first.error).startswith("Broken: ")
    assert len(str(second.error)) < 400


def _damaged():
    good = json.loads(samples.mixed().to_json())

    def of(*path, value):
        content = copy.deepcopy(good)
        place = content
        for key in path[:-1]:
            place = place[key]
        if value is _damaged:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        return json.dumps(content)

    rows = ("results", 0, "operations", "rows")
    return {
        "not JSON": ("{", "not valid JSON"),
        "empty": ("", "not valid JSON"),
        "a list": ("[]", "is not a report"),
        "foreign": ('{"a": 1}', "is not a report"),
        "NaN": (samples.mixed().to_json().replace('"duration":6.0', '"duration":NaN'), "NaN"),
        "nested": ("[" * 100_000, "nested too deeply"),
        "huge number": (f'{{"a": 1{"0" * 5000}}}', "cannot be read"),
        "other version": (of("schema_version", value=2), "schema_version=2: must be 1"),
        "version true": (of("schema_version", value=True), "schema_version=True"),
        "no results": (of("results", value=_damaged), "lacks results"),
        "unknown key": (of("extra", value=1), "'extra'"),
        "results": (of("results", value={}), "results=<dict>: must be an array"),
        "a field lacks": (of("results", 1, "seed", value=_damaged), "results[1]: lacks seed"),
        "a field more": (of("results", 1, "tea", value=1), "results[1]: has 'tea'"),
        "type": (of("results", 0, "duration", value="6"), "results[0].duration=<str>: must be a number"),
        "boolean": (of("results", 0, "duration", value=True), "results[0].duration=<bool>"),
        "overflow": (of("results", 0, "duration", value=10**400), "fits into 64 bits"),
        "status": (of("results", 0, "status", value="fine"), "results[0].status='fine': must be one of passed"),
        "check": (of("results", 0, "checks", 1, "passed", value="yes"), "results[0].checks[1].passed=<str>"),
        "row": (of(*rows, 3, value=[1, 2]), "rows[3]=<list>: must be an array of 6"),
        "row's error": (of(*rows, 20, 5, value=9), "rows[20][5]=9: there are 1 errors"),
        "both": (of(*rows, 20, 4, value="dict"), "rows[20]: must have a value or an error"),
        "errors": (of("results", 0, "operations", "errors", value=["x"]), "errors[0]=<str>"),
        "columns": (of("results", 0, "operations", "columns", value=["x"]), "columns=<list>: must be number"),
        "operations": (of("results", 0, "operations", value=[]), "operations=<list>: must be an object"),
        "rows": (of(*rows, value={}), "rows=<dict>: must be an array"),
    }


@pytest.mark.parametrize("what", _damaged())
def test_damaged_json_report_is_refused_with_the_place(what):
    """A file that is no report, is damaged, or of another version raises ConfigurationError that says where."""
    text, said = _damaged()[what]
    with pytest.raises(ConfigurationError) as caught:
        TestReport.from_json(text)
    assert said in str(caught.value)


def test_json_report_with_a_byte_order_mark_is_read():
    """Editors that put a mark at the beginning of a file do no harm; bytes are refused."""
    assert len(as_json.read("\ufeff" + samples.mixed().to_json())) == 4
    with pytest.raises(TypeError, match="must be a str"):
        as_json.read(b"{}")


# JUnit


def test_junit_report_is_read_by_others():
    """A published reader finds one case for each scenario: failures, errors where nothing is known, and properties."""
    suites = list(JUnitXml.fromstring(junit.write(samples.mixed()).encode()))
    assert len(suites) == 1
    suite = suites[0]
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 2, 1, 0)
    assert suite.time == pytest.approx(24)
    passed, failed, late, unclear = list(suite)
    assert passed.is_passed
    assert [type(one.result[0]) for one in (failed, late, unclear)] == [Failure, Failure, Error]
    assert failed.result[0].message == "FAILED: recovery time: not recovered, required: at most 5 s"
    assert (late.result[0].type, unclear.result[0].type) == ("timeout", "inconclusive")
    properties = {one.name: one.value for one in passed.child(Properties)}
    assert properties["seed"] == "7"
    assert properties["replay"] == "RESILIENT_SEED=7 python run.py"
    assert (properties["fired"], properties["recovery_time"], properties["score"]) == ("20", "0.300000", "100.0")
    assert "resilience score 100 of 100" in passed.system_out


def test_junit_report_is_well_formed_whatever_the_names():
    """Characters that XML forbids are replaced, and the rest is escaped and comes back."""
    text = junit.write(samples.nasty())
    case = ElementTree.fromstring(text.encode()).find("testsuite/testcase")  # noqa: S314 - written a line above
    name = case.get("name")
    assert name.startswith("<script>alert(1)</script> \"'&` | pipe line ��[31m � ]]>")
    assert case.find("failure").get("type") == "failed"


def test_junit_report_tells_repeated_scenarios_apart():
    """The same scenario twice is two cases of different names; readers would take them for one."""
    suite = next(iter(JUnitXml.fromstring(junit.write(TestReport([samples.result(), samples.result()])).encode())))
    assert [one.name for one in suite] == ["Payments recover", "Payments recover (run 2)"]


def test_junit_report_of_nothing_is_a_suite_of_nothing():
    """No scenarios, no cases."""
    suite = next(iter(JUnitXml.fromstring(junit.write(TestReport([])).encode())))
    assert (suite.tests, list(suite)) == (0, [])


# Markdown


def _rendered(report):
    return Page(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown.write(report)))


def test_markdown_report_has_its_tables_and_sections():
    """Rendered: an overview of all scenarios, then each with checks and phases, its seed, and how to do it again."""
    seen = _rendered(samples.mixed())
    assert len(seen.all("h2")) == 4
    assert len(seen.all("table")) == 1 + 2 * 4
    assert "1 of 4 passed" in seen.text
    assert "RESILIENT_SEED=7 python run.py" in seen.text
    assert "❔ inconclusive" in seen.text


def test_markdown_report_shows_hostile_names_as_they_are():
    """Nothing in a name becomes markup: the tables keep their columns, and the texts come out as they went in."""
    seen = _rendered(samples.nasty())
    assert {name for name, _ in seen.elements} <= {
        *("h1", "h2", "p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "pre", "code"),
    }
    rows = re.findall(r"<tr>.*?</tr>", MarkdownIt().enable("table").render(markdown.write(samples.nasty())), re.S)
    assert {row.count("</t") - 1 for row in rows} == {5, 7}
    assert "".join(seen.texts).count("<script>alert(1)</script> \"'&` | pipe") >= 8


@pytest.mark.parametrize("name", ["- x", "+ x", "1. x", "1) x", "# x", "> x", "* x", "= x", "=====", "---", "x #"])
def test_markdown_escapes_what_begins_something(name):
    """A name that looks like a list, a heading or a rule stays a name."""
    html = MarkdownIt().render(f"{markdown.escaped(name)}\n")
    assert Page(html).text.strip() == name
    assert html.startswith("<p>")


# HTML


def test_page_needs_nothing_from_elsewhere():
    """It has no script, no address but its own anchors, and a policy that forbids all of that."""
    text = page.write(samples.mixed())
    seen = Page(text)
    assert seen.open == []
    assert not {"script", "link", "img", "iframe", "object"} & {name for name, _ in seen.elements}
    links = [
        value for _, attrs in seen.elements for key, value in attrs.items() if key in ("href", "src", "xlink:href")
    ]
    ids = [attrs["id"] for _, attrs in seen.elements if "id" in attrs]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert len(ids) == len(set(ids))
    assert "url(" not in text
    policy = next(one["content"] for one in seen.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert not [attrs for _, attrs in seen.elements if "style" in attrs or any(key.startswith("on") for key in attrs)]


def test_page_escapes_every_text():
    """Hostile names are texts on the page, and no elements; what no file can hold is replaced."""
    text = page.write(samples.nasty())
    text.encode()
    assert "<script" not in text
    seen = Page(text)
    assert seen.open == []
    assert seen.text.count("<script>alert(1)</script>") >= 12
    assert "\x1b" not in text


def test_page_says_the_verdicts_in_words():
    """At the top what became of all scenarios, with figures, and in each section why."""
    seen = shown(*samples.mixed().results)
    assert "1 of 4 scenarios passed: 1 failed, 1 took too long, 1 could not be judged." in seen.text
    for word in ("Pass rate", "25 %", "Resilience score", "Average recovery", "✓ passed", "✗ failed", "? inconclusive"):
        assert word in seen.text
    assert "FAILED: recovery time: not recovered, required: at most 5 s" in seen.text
    assert "the fault never fired" in seen.text
    assert "RESILIENT_SEED=7 python run.py" in seen.text
    assert "ConnectionError: refused (20 x)" in seen.text


def test_page_can_be_read_to_somebody():
    """Headings in order, headings in tables, and drawings with a title and a description in words."""
    seen = shown(*samples.mixed().results)
    levels = [int(name[1]) for name, _ in seen.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert all("scope" in one for one in seen.all("th"))
    drawings = seen.all("svg", role="img")
    assert len(drawings) == 4
    ids = {attrs.get("id") for _, attrs in seen.elements}
    assert all(set(one["aria-labelledby"].split()) <= ids for one in drawings)
    assert "Breaker payments 0 opened 1 time, and is closed at the end." in seen.text
    assert "60 calls, 20 of them failed." in seen.text


def test_timeline_shows_what_happened():
    """Phases, the fault, the breaker's states, calls by outcome, what policies did, and the recovery."""
    seen = shown(samples.result())
    for kind in ("baseline", "recovery"):
        assert len(seen.all("rect", **{"class": kind})) == 1
    assert len(seen.all("rect", **{"class": "shade"})) == 1
    assert [len(seen.all("rect", **{"class": state})) for state in ("closed", "open", "half-open")] == [2, 1, 1]
    assert len(seen.all("circle", **{"class": "ok"})) == 40
    assert len(seen.all("use")) == 20
    assert len(seen.all("rect", **{"class": "did"})) == 4
    for word in ("hit 20 of 20", "recovered after 300 ms", "Retries: 1", "Rejected calls: 1", "Timeouts: 1"):
        assert word in seen.text
    assert "not recovered" in shown(samples.failed()).text


def test_timeline_puts_things_where_they_were():
    """Half of the way is the middle of the drawing, its ends are the ends."""
    fault = FaultRecord("payments", "x", 1.0, 7, 20, 20, 0.0, 3.0)
    rect = shown(samples.result(faults=(fault,))).all("rect", **{"class": "shade"})[0]
    assert float(rect["x"].rstrip("%")) == pytest.approx(1.0)
    assert float(rect["width"].rstrip("%")) == pytest.approx(49.0)


@pytest.mark.parametrize("end", [0.0, 0.001, 0.02, 1.0, 59.0, 3600.0, 86400.0])
def test_timeline_of_any_length_has_an_axis(end):
    """From a millisecond to a day: a few round numbers of seconds, and everything within the drawing."""
    given = samples.long(end) if end else samples.result(duration=0.0, operations=(), events=(), phases=(), faults=())
    text = page.write(TestReport([given]))
    labels = [float(one.replace(",", "")) for one in re.findall(r'class="tick \w+">([\d.,]+)</text>', text)]
    assert 3 <= len(labels) <= 6
    assert labels == sorted(set(labels))
    assert labels[-1] <= max(end, 0.001) * 1.01
    places = [float(one) for one in re.findall(r' (?:x|x1|x2|cx)="([\d.]+)%"', text)]
    assert 0 <= min(places) <= max(places) <= 100


@pytest.mark.parametrize("number", [0, 1, 2])
def test_page_of_hardly_any_calls(number):
    """None, one or two operations are shown as they are."""
    seen = shown(samples.result(operations=samples.operations(number)))
    assert len(seen.all("circle", **{"class": "ok"})) + len(seen.all("use")) == number
    assert ("no call ended" in seen.text) == (number == 0)


def test_page_of_nothing_says_so():
    """A report without results is a page that says it."""
    seen = shown()
    assert "No scenario has run." in seen.text


def test_page_of_very_many_calls_stays_small():
    """50,000 calls, 12 breakers and 20,000 retries make a page below 2 MB, which says that calls were left out."""
    retries = tuple(TimelineEvent(n / 10_000, "RetryScheduled", "r", "") for n in range(20_000))
    many = samples.events(breakers=12, name="b" * 300)
    text = page.write(
        TestReport(
            [samples.result(operations=samples.operations(50_000), events=retries + many, scenario_name="n" * 500)]
        )
    )
    assert len(text.encode()) < 2_000_000
    seen = Page(text)
    drawn = len(seen.all("circle", **{"class": "ok"})) + len(seen.all("use"))
    assert 200 < drawn <= MOST
    assert f"{drawn:,} of 50,000 calls drawn" in seen.text
    assert len(seen.all("rect", **{"class": "open"})) == 12


def test_thinning_out_keeps_every_failure_in_reach():
    """Of 50,000 calls the first, last, fastest and slowest failure are drawn, and a single failure is never lost."""
    rows = list(samples.operations(50_000))
    rows[5] = Operation(5, rows[5].started, rows[5].started + 0.5, "baseline", None, ValueError())
    drawn = chosen(rows, 6.0).operations
    failures = [one for one in rows if not one.ok]
    for pick in (min, max):
        assert pick(failures, key=lambda one: one.ended) in drawn
        assert pick(failures, key=lambda one: one.duration) in drawn
    assert rows[5] in drawn


def test_a_breaker_that_flaps_is_drawn_as_changing():
    """Thousands of changes become few bands, which cover the same time."""
    states = ["OPEN", "HALF_OPEN"]
    changes = [(1 + n / 1000, states[n % 2], states[(n + 1) % 2]) for n in range(4000)]
    found = stretches(changes, 10.0)
    assert len(found) < 10
    assert {one.state for one in found} >= {"changing"}
    assert (found[0].start, found[-1].end) == (0.0, 10.0)


def test_scale_shows_slow_and_fast_together():
    """Where one call took a thousand times as long as the rest, the rest is not squeezed to the ground."""
    scale = Scale([0.001] * 99 + [1.0])
    assert scale.is_logarithmic
    assert scale.height(0.002) - scale.height(0.001) > 0
    assert scale.height(0.0) == 0.0
    assert scale.height(1.0) <= 1.0
    assert Scale([0.01, 0.02]).height(0.02) > Scale([0.01, 0.02]).height(0.01) > 0
    assert Scale([0.0, 0.0]).marks() == []


def test_page_survives_numbers_that_are_none():
    """A result that was read from a file with nulls for numbers is shown."""
    given = samples.result(duration=math.nan, started_at=math.inf, p95=math.nan, recovery_time=math.nan)
    assert "Payments recover" in shown(given).text
    assert "Payments recover" in markdown.write(TestReport([given]))
    suite = next(iter(JUnitXml.fromstring(junit.write(TestReport([given])).encode())))
    assert suite.time == 0


def test_report_read_from_json_gives_the_same_page():
    """Whoever has the JSON can make the other reports of it."""
    report = samples.mixed()
    again = TestReport.from_json(report.to_json())
    assert again.to_html() == report.to_html()
    assert again.to_junit() == report.to_junit()
    assert again.to_markdown() == report.to_markdown()


def test_report_is_saved_by_the_name_of_its_file(tmp_path):
    """Each suffix writes its format, in folders that are made, whatever the names in it."""
    for suffix, begins in ((".html", "<!DOCTYPE html>"), (".json", '{"format"'), (".xml", "<?xml"), (".md", "# ")):
        file = samples.nasty().save(tmp_path / "new" / f"report{suffix}")
        assert file.read_text("utf-8").startswith(begins)
    with pytest.raises(ConfigurationError, match=r"\.html"):
        samples.nasty().save(tmp_path / "report.pdf")


def test_what_is_too_much_for_a_timeline_is_counted():
    """20 faults, some of which never began, 30 breakers and 400 events: what is left out is said, and how many."""
    never = FaultRecord("t", "never", 1.0, None, 0, 0, None, None)
    some = tuple(FaultRecord("t", f"fault {n}", 0.5, None, 4, 1, 1.0, None) for n in range(19))
    told = tuple(TimelineEvent(1.0, "ServiceHealthChanged", "s", "") for _ in range(300))
    seen = shown(samples.result(faults=(never, *some), events=samples.events(breakers=30) + told))
    for words in ("never began", "and 8 more faults", "and 6 more breakers", "later ones left out here"):
        assert words in seen.text


def test_reports_of_a_bare_result_leave_out_what_is_not_there():
    """Without checks, phases, faults, events, errors and operations every format says what is left: the verdict."""
    none = dict.fromkeys(("checks", "phases", "faults", "events", "error_logs", "operations"), ())
    bare = samples.of_status(TestStatus.TIMEOUT, "")
    report = TestReport([samples.result(**none), dataclasses.replace(bare, **none, recovery_time=None)])
    assert "Checks" not in report.to_html()
    assert "| Check |" not in report.to_markdown()
    assert TestReport.from_json(report.to_json()).to_html() == report.to_html()
    assert "**No scenario has run.**" in TestReport([]).to_markdown()


def test_scale_of_decades_has_round_marks():
    """Where durations differ a lot, the marks are powers of ten."""
    assert Scale([0.001] * 99 + [1.0]).marks() == pytest.approx([0.001, 0.01, 0.1, 1.0])


def test_a_breaker_that_flaps_for_a_while_keeps_its_calm_times():
    """Before and after it flapped, its states are seen."""
    states = ["OPEN", "CLOSED"]
    changes = [(1.0, "CLOSED", "OPEN"), *((5 + n / 1000, states[n % 2], states[(n + 1) % 2]) for n in range(1001))]
    found = [(one.state, round(one.end)) for one in stretches(changes, 10.0)]
    assert found == [("CLOSED", 1), ("OPEN", 5), ("changing", 6), ("CLOSED", 10)]


def test_long_names_keep_their_ends():
    """Breakers whose long names differ only at the end can be told apart on the timeline."""
    seen = shown(samples.result(events=samples.events(breakers=12, name="orders of the warehouse in the far north")))
    lanes = {text for text in seen.texts if text.startswith("Breaker orders") and "…" in text}
    assert len(lanes) == 12
    assert all(len(lane) <= 40 for lane in lanes)


def test_seconds_and_shares_are_shown_as_they_are():
    """Units suit the size; only all is 100 %, and only none is 0 %."""
    given = [None, 0.0, 2e-8, 4.2e-6, 0.0123, 0.9999, 1.5, 999.6, 3600.0, math.nan]
    assert [seconds(one) for one in given] == (
        ["–", "0 s", "0 ms", "0.0042 ms", "12.3 ms", "1 s", "1.5 s", "1,000 s", "3,600 s", "–"]  # noqa: RUF001
    )
    assert [percent(one) for one in (0.0, 0.00001, 0.5, 0.99999, 1.0)] == ["0 %", "0.1 %", "50 %", "99.9 %", "100 %"]
    assert steps(1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize("turns", ["\u202a", "\u202b", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"])
def test_no_text_turns_its_surroundings_round(turns):
    """Characters that turn the direction of what follows are shown as replaced in every format for people."""
    given = samples.result(
        scenario_name=f"x {turns} y",
        faults=(FaultRecord(f"x {turns} y", f"x {turns} y", 1.0, 1, 1, 1, 0.0, 1.0),),
        error_logs=(f"x {turns} y",),
        reasons=(f"x {turns} y",),
    )
    report = TestReport([given])
    for text in (report.to_html(), report.to_markdown(), report.to_junit()):
        assert turns not in text
        assert "x \ufffd y" in text


@pytest.mark.parametrize("key", ["successes", "operations"])
@pytest.mark.parametrize("value", [10**400, -(10**400), 2**63])
def test_counts_that_nobody_can_count_to(key, value):
    """A count of a file that no number of 64 bits holds is refused when it is read, not when it is shown."""
    content = json.loads(samples.mixed().to_json())
    content["results"][0]["phases"][0][key] = value
    said = rf"results\[0\]\.phases\[0\]\.{key}=<int>: must be a whole number that fits into 64 bits"
    with pytest.raises(ConfigurationError, match=said):
        TestReport.from_json(json.dumps(content))


def test_statuses_all_have_their_words():
    """Every status can be shown in every format."""
    for status in TestStatus:
        report = TestReport([samples.of_status(status, "why")])
        assert status.value in report.to_html()
        assert status.value in report.to_markdown()
        assert status.value in report.to_junit()
