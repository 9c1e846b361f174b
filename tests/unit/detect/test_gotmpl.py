"""Templates give the texts that Go and Prometheus give. Expected texts follow the documentation of text/template, fmt and Prometheus."""

import math

import pytest

from pipeline.detect.gotmpl import Scope, Text
from pipeline.detect.gotmpl.printf import sprintf
from pipeline.detect.gotmpl.values import GoDuration, shortest
from pipeline.model.labels import Labels
from pipeline.promql import EvalError, Row

ROWS = {
    "up": [Row(Labels.of(__name__="up", job="b"), 1.0), Row(Labels.of(__name__="up", job="a"), 0.0)],
    "none": [],
}


def query(text: str) -> list[Row]:
    if text not in ROWS:
        raise EvalError("bad query")
    return ROWS[text]


SCOPE = Scope(
    Labels.of(region="eu"), "https://prom.example.org/base", query, Labels.of(job="api", instance="host.example.org:9100"), 0.25, 1_700_000_000_000
)


def expand(text: str, value: float = 0.25) -> str:
    return Text(text).expand(SCOPE.about(SCOPE.labels, value))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("{{ $value }} {{ .Value }} {{ $labels.job }} {{ .Labels.job }}", "0.25 0.25 api api"),
        (
            "{{ $externalLabels.region }} {{ $externalURL }} {{ externalURL }} {{ pathPrefix }}",
            "eu https://prom.example.org/base https://prom.example.org/base /base",
        ),
        ("[{{ $labels.nothing }}]", "[]"),
        ("{{ if eq $labels.job `api` }}yes{{ else }}no{{ end }}", "yes"),
        ("{{ if false }}a{{ else if $labels.job }}b{{ else }}c{{ end }}", "b"),
        ("{{ with $labels.nothing }}x{{ else }}none{{ end }}", "none"),
        ("{{ with $x := $labels.job }}{{ $x }}{{ . }}{{ end }}", "apiapi"),
        ("{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}", "instance=host.example.org:9100;job=api;"),
        ("{{ range query `up` }}{{ .Labels.job }}{{ .Value }} {{ end }}", "b1 a0 "),
        ("{{ range query `none` }}x{{ else }}empty{{ end }}", "empty"),
        ('{{ range $i, $e := query "up" | sortByLabel "job" }}{{ if $i }}, {{ end }}{{ $e.Labels.job }}{{ end }}', "a, b"),
        ('{{ query "up" | first | label "job" }} {{ query "up" | first | value }}', "b 1"),
        ("{{ range query `up` }}{{ if eq .Value 0.0 }}{{ continue }}{{ end }}{{ .Labels.job }}{{ end }}", "b"),
        ("{{ range query `up` }}{{ .Labels.job }}{{ break }}{{ end }}", "b"),
        ("{{ $x := 1 }}{{ range query `up` }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ $x := 1 }}{{ if true }}{{ $x := 5 }}{{ end }}{{ $x }}", "1"),
        ("a {{- 1 -}} b", "a1b"),
        ("a\n  {{- /* gone */ -}}\n b{{/* too */}}c", "abc"),
        ('{{ "quoted \\"x\\" \\u00e9\\n" }}|{{ `raw \\n` }}', 'quoted "x" é\n|raw \\n'),
        ("{{ print 1 2 `a` 3 }}|{{ println 1 `a` }}", "1 2a3|1 a\n"),
        (
            "{{ and 1 0 }} {{ or 0 `x` }} {{ not 1 }} {{ and }}",
            "<error expanding template: error executing template: wrong number of args for and: want at least 1 got 0>",
        ),
        ("{{ and true $labels.job }} {{ or $labels.nothing `x` }} {{ not `` }}", "api x true"),
        ("{{ len $labels }} {{ len `é` }} {{ index $labels `job` }} {{ slice `abcd` 1 3 }}", "2 2 api bc"),
        ("{{ lt 1 2 }} {{ le 2 2 }} {{ gt 1.5 2.5 }} {{ ge `b` `a` }} {{ ne 1 2 }} {{ eq 3 1 2 3 }}", "true true false true true true"),
        ("{{ 0x10 }} {{ 1_000 }} {{ -5 }} {{ 1.50 }} {{ 'a' }} {{ 1e3 }}", "16 1000 -5 1.5 97 1000"),
        ("{{ define `t` }}<{{ . }}>{{ end }}{{ template `t` $labels.job }}{{ tmpl `t` 1 }}", "<api><1>"),
        ("{{ block `t` $value }}[{{ . }}]{{ end }}", "[0.25]"),
        ("{{ (index (query `up`) 1).Labels.job }}", "a"),
        ("{{ with args 1 `b` }}{{ .arg0 }}{{ .arg1 }}{{ end }}", "1b"),
        ("{{ $labels }}", "map[instance:host.example.org:9100 job:api]"),
        ("{{ true }}", "true"),
    ],
)
def test_the_language(text: str, expected: str) -> None:
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ humanize 0 }} {{ humanize 1234567 }} {{ humanize 0.00123 }} {{ humanize -2500 }} {{ humanize `12` }}", "0 1.235M 1.23m -2.5k 12"),
        ("{{ humanize1024 1024 }} {{ humanize1024 1 }} {{ humanize1024 3221225472.0 }}", "1ki 1 3Gi"),
        ("{{ humanizeDuration 0 }} {{ humanizeDuration 59.5 }} {{ humanizeDuration 61 }} {{ humanizeDuration 3661 }}", "0s 59.5s 1m 1s 1h 1m 1s"),
        ("{{ humanizeDuration 90061 }} {{ humanizeDuration -90 }} {{ humanizeDuration 0.0015 }}", "1d 1h 1m 1s -1m 30s 1.5ms"),
        ("{{ humanizePercentage 0.1234567 }}", "12.35%"),
        ("{{ humanizeTimestamp 1435065584.128 }}", "2015-06-23 13:19:44.128 +0000 UTC"),
        ("{{ toTime 1700000000 }}", "2023-11-14 22:13:20 +0000 UTC"),
        ("{{ toDuration 3661.5 }}", "1h1m1.5s"),
        ("{{ parseDuration `1h30m` }}", "5400"),
        ("{{ toUpper `aB` }} {{ toLower `aB` }} {{ title `two-words and more` }}", "AB ab Two-Words And More"),
        ('{{ reReplaceAll "(\\\\w+)@(\\\\w+)" "$2-${1}x $nope" "joe@host" }}', "host-joex "),
        ('{{ match "^a.*z$" "abcz" }} {{ match "b" "abc" }}', "true true"),
        ("{{ stripPort $labels.instance }} {{ stripPort `[::1]:80` }} {{ stripPort `plain` }}", "host.example.org ::1 plain"),
        ("{{ stripDomain $labels.instance }} {{ stripDomain `10.0.0.1:80` }} {{ stripDomain `a.b.c` }}", "host:9100 10.0.0.1:80 a"),
        ("{{ graphLink `up == 0` }}", "/graph?g0.expr=up+%3D%3D+0&g0.tab=0"),
        ("{{ tableLink `up` }} {{ urlQueryEscape `a b/c` }}", "/graph?g0.expr=up&g0.tab=1 a+b%2Fc"),
        ("{{ safeHtml `<b>` }} {{ html `<b>'\"&` }}", "<b> &lt;b&gt;&#39;&#34;&amp;"),
        ("{{ now }}", "1.7e+09"),
    ],
)
def test_prometheus_functions(text: str, expected: str) -> None:
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{{ nosuch 1 }}", 'function "nosuch" not defined'),
        ("{{ $nosuch }}", 'undefined variable "$nosuch"'),
        ("{{ if }}x{{ end }}", "missing value for command"),
        ("{{ if 1 }}x", "unexpected EOF"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ 1 ", "unclosed action"),
        ("{{/* x", "unclosed comment"),
        ("{{ break }}", "outside {{range}}"),
        ("{{ gt $value 1 }}", "incompatible types for comparison"),
        ("{{ first (query `none`) }}", "first() called on vector with no elements"),
        ("{{ query `bad` }}", "error calling query: bad query"),
        ("{{ .Nothing }}", "can't evaluate field Nothing"),
        ("{{ humanize `x` }}", 'parsing "x": invalid syntax'),
        ("{{ humanize true }}", "can't convert bool to float"),
        ("{{ nil }}", "nil is not a command"),
        ("{{ 1 | 2 }}", "non executable command in pipeline stage 2"),
        ("{{ $labels.job 1 }}", "can't give argument to non-function"),
        ("{{ reReplaceAll `(` `` `` }}", "error parsing regexp"),
        ("{{ toUpper 1 }}", "expected string; got int"),
        ("{{ len 1 }}", "len of type int"),
        ("{{ toUpper }}", "wrong number of args"),
        ("{{ template `nosuch` }}", "not defined"),
        ("{{ define `t` }}{{ template `t` }}{{ end }}{{ template `t` }}", "depth"),
        ("{{ range 1000000 }}xxxxxxxxxx{{ end }}", "too"),
        ("{{ § }}", "unexpected"),
    ],
)
def test_what_goes_wrong_is_said_in_the_text(text: str, part: str) -> None:
    expanded = expand(text)
    assert expanded.startswith("<error expanding template: ")
    assert part in expanded


@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        ("%d|%5d|%-5d|%05d|%+d|%x|%o|%b|%c", [7, 7, 7, 7, 7, 255, 8, 5, 65], "7|    7|7    |00007|+7|ff|10|101|A"),
        ("%s|%q|%8s|%-8s|%.2s|%x", ["ab", 'a"b', "ab", "ab", "abc", "hi"], 'ab|"a\\"b"|      ab|ab      |ab|6869'),
        ("%f|%.1f|%8.2f|%e|%g|%G|%.3g", [1.5, 0.25, 3.14159, 1234.5, 1e6, 1e-7, 1234.5], "1.500000|0.2|    3.14|1.234500e+03|1e+06|1E-07|1.23e+03"),
        ("%v %v %v", [1.0, "x", True], "1 x true"),
        ("%t %T %T", [True, 1.5, "s"], "true float64 string"),
        ("%d", [1.5], "%!d(float64=1.5)"),
        ("%s", [5], "%!s(int=5)"),
        ("%d %d", [1], "1 %!d(MISSING)"),
        ("%d", [1, 2, "x"], "1%!(EXTRA int=2, string=x)"),
        ("100%%", [], "100%"),
        ("%", [], "%!(NOVERB)"),
        ("%*d|%.*f", [5, 7, 2, 1.234], "    7|1.23"),
        ("%f %v", [math.inf, -math.inf], "+Inf -Inf"),
        ("%06.1f|% d", [-1.5, 5], "-001.5| 5"),
    ],
)
def test_printf(text: str, args: list[object], expected: str) -> None:
    assert sprintf(text, args) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (100000.0, "100000"),
        (1000000.0, "1e+06"),
        (123456789.0, "1.23456789e+08"),
        (0.0001, "0.0001"),
        (0.00001234, "1.234e-05"),
        (1e300, "1e+300"),
        (5e-324, "5e-324"),
        (0.1 + 0.2, "0.30000000000000004"),
        (math.nan, "NaN"),
        (-math.inf, "-Inf"),
    ],
)
def test_floats_print_with_the_fewest_digits(value: float, text: str) -> None:
    assert shortest(value) == text


@pytest.mark.parametrize(
    ("ns", "text"), [(0, "0s"), (1500, "1.5µs"), (1_500_000, "1.5ms"), (-90_000_000_000, "-1m30s"), (3_600_000_000_000, "1h0m0s")]
)
def test_durations_print_as_go_prints_them(ns: int, text: str) -> None:
    assert str(GoDuration(ns)) == text


def test_a_text_without_actions_is_constant() -> None:
    assert Text("plain } text").is_constant
    assert Text("{{ bad").problem
